"""Checks of a run's arguments, made before it starts."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gfm.central.minibatch import Minibatch
from gfm.central.processes import PROCESSES
from gfm.central.rivals import Rival
from gfm.checks import writable
from gfm.errors import InputError, UnknownNameError, said
from gfm.optimizers import GradientDescent, Optimizer
from gfm.problem import Problem
from gfm.randomness import restoring

__all__ = ["RESERVED", "Observables", "checkpoint_path", "check_rivals", "minibatch_of", "observables_at",
           "process_names", "start_of"]

Observables = Mapping[str, Callable[[Tensor], Tensor]]

#: Names used by a run's own series; names that begin with ``predicted_`` are reserved too.
RESERVED = frozenset({
    "loss", "minibatch_loss", "gradient_norm2", "effective_step", "lr", "nu_mean", "gradient2_at", "nu_at",
    "eigenvalues", "residuals", "eigen_products", "sigma", "critical", "complementarity_residual",
    "complementarity_gap", "spent_gradients", "spent_products", "substeps", "retaken", "nu_push", "displacement",
    "weights", "weights_steps",
})


def process_names(processes: Iterable[str]) -> list[str]:
    """The names of ``processes`` as a list, after checking that each is known and occurs only once.

    Raises:
        InputError: ``processes`` is not a collection of names, is empty, or contains a name twice.
        UnknownNameError: There is no such process.
    """
    try:
        names = [processes] if isinstance(processes, str) else list(processes)
    except TypeError as failure:
        raise InputError(f"processes must be names of processes, but they are {processes!r}.") from failure
    for name in names:
        if not isinstance(name, str) or name not in PROCESSES:
            raise UnknownNameError(f"Unknown process {name!r}; choose from {', '.join(PROCESSES)}.")
    if not names or len(set(names)) != len(names):
        raise InputError("processes must name at least one process, and each only once.")
    return names


def check_rivals(names: Collection[str], optimizer: Optimizer) -> None:
    """Refuse the central flow's rivals unless the optimizer is gradient descent.

    Raises:
        InputError: One of them is among ``names``, and the optimizer is another rule.
    """
    rivals = [name for name in names if issubclass(PROCESSES[name], Rival)]
    if rivals and type(optimizer) is not GradientDescent:
        raise InputError(
            f"The process {rivals[0]!r} follows gradient descent only, not {type(optimizer).__name__}; leave it out."
        )


def minibatch_of(names: Collection[str], minibatch: Minibatch | None, problem: Problem) -> Minibatch | None:
    """The options of the process "minibatch" with their batch size, or None if it is not among ``names``.

    Raises:
        InputError: ``minibatch`` is no ``Minibatch``, does not fit the problem, or its process is not asked for.
    """
    if minibatch is not None and not isinstance(minibatch, Minibatch):
        raise InputError(f"minibatch must be a gfm.central.Minibatch, but it is a {type(minibatch).__name__}.")
    if "minibatch" not in names:
        if minibatch is not None:
            raise InputError("minibatch is given, but processes does not name the process \"minibatch\".")
        return None
    minibatch = Minibatch() if minibatch is None else minibatch
    return replace(minibatch, batch_size=minibatch.size(problem.n))


def start_of(problem: Problem, w0: Tensor | None) -> Tensor:
    """The weights (p,) from which a run starts: ``w0``, or the module's own.

    Raises:
        InputError: ``w0`` is not a finite tensor with the problem's shape, dtype and device.
    """
    if w0 is None:
        return problem.w0
    if not isinstance(w0, Tensor):
        raise InputError(f"w0 must be a torch tensor of shape ({problem.p},), but it is a {type(w0).__name__}.")
    problem.check(w0)
    if not torch.isfinite(w0).all():
        raise InputError("w0 contains NaN or infinity.")
    return w0


def observables_at(observables: Observables | None, w: Tensor) -> Observables:
    """The functions by name, after trying each at the weights (p,).

    Raises:
        InputError: A name is reserved, or a function does not return a finite real tensor.
    """
    if observables is None:
        return {}
    if not isinstance(observables, Mapping):
        raise InputError(
            f"observables must map names to functions of the weights, but they are a {type(observables).__name__}."
        )
    for name, function in observables.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise InputError(f"An observable's name must be text without '/', but it is {name!r}.")
        if name in RESERVED or name.startswith("predicted_"):
            raise InputError(f"A run uses the name {name!r} itself; give the observable another one.")
        if not callable(function):
            raise InputError(f"Observable {name!r} must be a function of the weights, but it is {function!r}.")
        try:
            with torch.no_grad(), restoring(w.device):
                value = function(w.detach().clone())
        except Exception as failure:
            why = f"{type(failure).__name__}: {said(failure)}"
            raise InputError(f"Observable {name!r} fails at the start: {why}.") from failure
        if not isinstance(value, Tensor) or value.is_complex() or not torch.isfinite(value).all():
            raise InputError(
                f"Observable {name!r} must give a finite real tensor, but at the start it gives {value!r:.60}."
            )
    return {name: partial(_on_copy, function) for name, function in observables.items()}


def _on_copy(function: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    """The function's value; one that works in place changes no weights of the run."""
    return function(w.clone())


def checkpoint_path(checkpoint: str | Path | None) -> Path | None:
    """The checkpoint's path, whose folder is created if necessary.

    Raises:
        InputError: A file cannot be written there.
    """
    if checkpoint is None:
        return None
    path = writable("checkpoint", checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
