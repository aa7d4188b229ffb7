"""The arguments of a run, checked before it starts."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfm.central.processes import PROCESSES, Settings
from gfm.checks import number, whole
from gfm.errors import InputError, UnknownNameError
from gfm.optimizers import Optimizer
from gfm.problem import Problem

__all__ = ["RESERVED", "Request", "checked"]

#: Names that a run's series use themselves; so is every name that begins with ``predicted_``.
RESERVED = frozenset({
    "loss", "gradient_norm2", "effective_step", "lr", "nu_mean", "gradient2_at", "nu_at", "eigenvalues",
    "residuals", "eigen_products", "sigma", "critical", "complementarity_residual", "complementarity_gap",
    "substeps", "retaken", "nu_push", "displacement", "weights", "weights_steps",
})


@dataclass(frozen=True)
class Request:
    """The checked arguments of ``gfm.central.run``; w: (p,) the start."""

    names: list[str]
    steps: int
    warmup: int
    w: Tensor
    seed: int
    keep_weights: int
    checkpoint_every: int
    checkpoint_seconds: float
    settings: Settings
    observables: Mapping[str, Callable[[Tensor], Tensor]]
    checkpoint: Path | None


def checked(
    problem: Problem, optimizer: Optimizer, steps: int, *, processes: Iterable[str], substeps: int, warmup: int,
    w0: Tensor | None, seed: int, observables: Mapping[str, Callable[[Tensor], Tensor]] | None, keep_weights: int,
    progress: bool | Callable[[int, int], None], checkpoint: str | Path | None, checkpoint_every: int,
    checkpoint_seconds: float, settings: Mapping[str, Any],
) -> Request:
    """The request, if a run can serve it; the arguments are those of ``gfm.central.run``.

    Raises:
        InputError: a value out of range or of the wrong kind.
        UnknownNameError: an unknown process or setting.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a gfm.Problem, but it is a {type(problem).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer must be a rule of gfm.optimizers, but it is a {type(optimizer).__name__}")
    steps, warmup = whole("steps", steps, 1), whole("warmup", warmup, 0)
    names = _names(processes)
    chosen = _settings(problem, substeps, settings)
    if not (callable(progress) or isinstance(progress, bool)):
        raise InputError(f"progress must be True, False or a function of (done, steps), but it is {progress!r}")
    w = _start(problem, w0)
    for t in range(1, warmup + steps + 2 if callable(optimizer.lr) else 1):
        optimizer.lr_at(t)
    if not chosen.curvature_penalty and optimizer.memory(optimizer.update(optimizer.init(w), w)) is None:
        raise InputError(
            f"{type(optimizer).__name__} adapts no step size, so its flow cannot do without the curvature penalty"
        )
    return Request(
        names, steps, warmup, w,
        seed=whole("seed", seed, 0),
        keep_weights=whole("keep_weights", keep_weights, 0),
        checkpoint_every=whole("checkpoint_every", checkpoint_every, 1),
        checkpoint_seconds=number(
            "checkpoint_seconds", checkpoint_seconds, lambda x: 0 <= x < math.inf, "a number of at least 0"
        ),
        settings=chosen,
        observables=_observables(observables, w),
        checkpoint=_file(checkpoint),
    )


def _names(processes: Iterable[str]) -> list[str]:
    try:
        names = [processes] if isinstance(processes, str) else list(processes)
    except TypeError as failure:
        raise InputError(f"processes must be names of processes, but they are {processes!r}") from failure
    for name in names:
        if not isinstance(name, str) or name not in PROCESSES:
            raise UnknownNameError(f"unknown process {name!r}; choose from {', '.join(PROCESSES)}")
    if not names or len(set(names)) != len(names):
        raise InputError("processes must name at least one process, and each only once")
    return names


def _settings(problem: Problem, substeps: int, settings: Mapping[str, Any]) -> Settings:
    known = {f.name for f in fields(Settings)} - {"substeps"}
    for name in settings:
        if name not in known:
            raise UnknownNameError(f"unknown setting {name!r}; choose from {', '.join(sorted(known))}")
    chosen = Settings(substeps=substeps, **settings)
    if chosen.track > problem.p:
        raise InputError(f"track asks for {chosen.track} eigenpairs, but there are only {problem.p} weights")
    return chosen


def _start(problem: Problem, w0: Tensor | None) -> Tensor:
    if w0 is None:
        return problem.w0
    if not isinstance(w0, Tensor):
        raise InputError(f"w0 must be a torch tensor of shape ({problem.p},), but it is a {type(w0).__name__}")
    problem.check(w0)
    if w0.device != problem.device:
        raise InputError(f"w0 is on {w0.device} but the module is on {problem.device}; move one of them")
    if not torch.isfinite(w0).all():
        raise InputError("w0 contains NaN or infinity")
    return w0


def _observables(observables: Any, w: Tensor) -> Mapping[str, Callable[[Tensor], Tensor]]:
    if observables is None:
        return {}
    if not isinstance(observables, Mapping):
        raise InputError(
            f"observables must map names to functions of the weights, but they are a {type(observables).__name__}"
        )
    for name, function in observables.items():
        if not isinstance(name, str) or not name or "/" in name:
            raise InputError(f"an observable's name must be text without '/', but it is {name!r}")
        if name in RESERVED or name.startswith("predicted_"):
            raise InputError(f"a run uses the name {name!r} itself; give the observable another one")
        if not callable(function):
            raise InputError(f"observable {name!r} must be a function of the weights, but it is {function!r}")
        try:
            with torch.no_grad():
                value = function(w.detach().clone())
        except Exception as failure:
            why = f"{type(failure).__name__}: {failure}"
            raise InputError(f"observable {name!r} fails at the start: {why}") from failure
        if not isinstance(value, Tensor) or value.is_complex() or not torch.isfinite(value).all():
            raise InputError(
                f"observable {name!r} must give a finite real tensor, but at the start it gives {_short(value)}"
            )
    return dict(observables)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _file(checkpoint: str | Path | None) -> Path | None:
    """The checkpoint's path; makes its folder and checks that it is writable."""
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise InputError(f"checkpoint must be a path, but it is {checkpoint!r}")
    path = Path(checkpoint)
    if path.is_dir():
        raise InputError(f"the checkpoint {path} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as failure:
        raise InputError(f"no checkpoint can be written to {path.parent}: {failure.strerror or failure}") from failure
    return path
