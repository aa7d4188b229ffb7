"""Run processes in lockstep from one start."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gfm.autograd import with_gradients
from gfm.central import checkpoint as checkpoints
from gfm.central import predictions, request
from gfm.central.base import Flow, Observation, Process, flat_value
from gfm.central.log import Log, Notes
from gfm.central.minibatch import Minibatch, Stochastic
from gfm.central.processes import PROCESSES, Central
from gfm.central.result import Run, Series
from gfm.central.rivals import Rival
from gfm.central.settings import Settings
from gfm.checks import MOST, MOST_SEED, number, whole
from gfm.errors import InputError, NumericalError, said
from gfm.optimizers import Optimizer, check_rule
from gfm.optimizers.base import diagonal
from gfm.problem import Problem
from gfm.randomness import seeding

__all__ = ["run"]


@with_gradients
def run(
    problem: Problem, optimizer: Optimizer, steps: int, *, processes: Iterable[str] = ("discrete", "stable", "central"),
    substeps: int | None = None, settings: Settings | None = None, minibatch: Minibatch | None = None, warmup: int = 0,
    w0: Tensor | None = None, seed: int = 0, observables: request.Observables | None = None, keep_weights: int = 0,
    progress: bool | Callable[[int, int], None] = False, checkpoint: str | Path | None = None,
    checkpoint_every: int = 100, checkpoint_seconds: float = 0.0,
) -> Run:
    """Run the optimizer and its flows in lockstep and measure them at every step.

    Args:
        problem: the training problem.
        optimizer: a rule of ``gfm.optimizers``.
        steps: number of optimizer steps, each one unit of flow time.
        processes: any of "discrete", "minibatch", "midpoint", "stable", "central", and for gradient descent "rod",
            "edge".
        substeps: least number of Euler substeps of the flows in each step, replacing the settings' value.
        settings: how the flows are computed; by default ``Settings()``.
        minibatch: the batches of the process "minibatch"; by default ``Minibatch()``.
        warmup: discrete full-batch steps before all processes start (RMSProp starts beyond the edge).
        w0: (p,) start; by default the module's own weights.
        seed: of torch's generator during the run, for observables that draw random numbers; eigen-solvers have
            seeds of their own.
        observables: name -> function of the weights (p,) whose value is recorded, flattened; the
            central flow adds ``predicted_<name>``, its time average over the oscillation.
        keep_weights: steps between stored weights of every process (0: none are stored).
        progress: True for a bar with an estimate of the time left, or a function of (steps done, steps).
        checkpoint: a file to resume from. If it exists, the run resumes from it, with the result of an
            uninterrupted run; it is removed at the end.
        checkpoint_every: steps between writes of the checkpoint.
        checkpoint_seconds: least time between writes.

    Returns:
        A ``Run``. Every series has loss, gradient_norm2, eigenvalues (of P^{-1} H, largest first),
        effective_step and more, and lr if it is scheduled; the central flow and its rivals also have predicted_loss and
        sigma, and the rivals spent_gradients and spent_products, counted from the start. The mini-batch process
        measures the full batch every ``eigen_every`` steps, and minibatch_loss in every step.
        A process whose numbers are no longer finite stops, is NaN from then on, and is noted. Costs are given by
        process; a mini-batch of n of N examples counts n/N gradients. Those of a warm-up are under "warmup".

    Raises:
        InputError: A value is out of range or of the wrong kind.
        UnknownNameError: There is no such process.
        UnreadableFileError: The checkpoint is broken or belongs to another call.
    """
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a gfm.Problem, but it is a {type(problem).__name__}.")
    if not isinstance(optimizer, Optimizer):
        raise InputError(f"optimizer must be a rule of gfm.optimizers, but it is a {type(optimizer).__name__}.")
    if not hasattr(optimizer, "lr"):
        raise InputError(f"{type(optimizer).__name__} has no learning rate: give it lr, a number or a schedule.")
    if not (callable(progress) or isinstance(progress, bool)):
        raise InputError(f"progress must be True, False or a function of (done, steps), but it is {progress!r}.")
    steps, warmup = whole("steps", steps, 1, MOST), whole("warmup", warmup, 0, MOST)
    seed = whole("seed", seed, 0, MOST_SEED)
    keep_weights = whole("keep_weights", keep_weights, 0)
    checkpoint_every = whole("checkpoint_every", checkpoint_every, 1)
    checkpoint_seconds = number(
        "checkpoint_seconds", checkpoint_seconds, lambda x: 0 <= x < math.inf, "a number of at least 0"
    )
    names, w0 = request.process_names(processes), request.start_of(problem, w0)
    request.check_rivals(names, optimizer)
    minibatch = request.minibatch_of(names, minibatch, problem)
    kinds: Mapping[str, Callable[..., Process]] = PROCESSES | {"minibatch": partial(Stochastic, options=minibatch)}
    rates = [optimizer.lr_at(t) for t in range(1, warmup + steps + 2)]  # raises if the schedule gives no rate
    optimizer, notes = optimizer.with_layout(problem.flat), Notes()
    with notes.listening(names[0], 0):
        check_rule(optimizer, w0, flows=any(issubclass(PROCESSES[name], Flow) for name in names))
    settings = _fitting(settings, substeps, problem, optimizer, w0)
    observables, path = request.observables_at(observables, w0), request.checkpoint_path(checkpoint)

    started = time.perf_counter()
    costs: dict[str, dict[str, float]] = defaultdict(dict)
    log = Log(steps)
    record = {
        **_described(optimizer), "steps": steps, "warmup": warmup, "seed": seed, **asdict(settings),
        "p": problem.p, "n": problem.n, "dtype": str(problem.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        **({} if minibatch is None else {"minibatch": asdict(minibatch)}),
    }
    with seeding(seed, problem.device):
        w, state = w0.detach().clone(), optimizer.init(w0)
        if warmup:
            with _costing(problem, costs["warmup"]):
                for _ in range(warmup):
                    w, state = optimizer.advance(w, state, problem.gradient(w))
        running: dict[str, Process] = {}
        for name in names:
            with notes.listening(name, 0), _costing(problem, costs[name]):
                running[name] = kinds[name](problem, optimizer, settings, w, state)
        first, written = 0, time.perf_counter()
        if path is not None:
            told = record | {
                "processes": names, "keep_weights": keep_weights, "observables": sorted(observables), "rates": rates,
            }
            call = checkpoints.fingerprint(problem, told, w0, observables)
            kept = checkpoints.read(path, call, problem.device)
            if kept is not None:
                first, log.seen, notes = kept["t"], kept["seen"], Notes(kept["notes"])
                costs.update(kept["costs"])
                torch.set_rng_state(kept["random"])
                for name, process in running.items():
                    process.load_state_dict(kept["processes"][name])
        bar = tqdm(total=steps, initial=first, disable=progress is not True, desc=type(optimizer).__name__, unit="step")
        for t in range(first, steps + 1):
            due = t > first and t % checkpoint_every == 0
            if path is not None and due and time.perf_counter() - written >= checkpoint_seconds:
                checkpoints.write(path, call, t, running, costs, log.seen, notes)
                written = time.perf_counter()
            for name, process in running.items():
                if not process.alive:
                    continue
                with notes.listening(name, t):
                    seen: Observation = {}
                    with _stopping(process, name, t, notes), _costing(problem, costs[name]):
                        seen = process.observe(t)
                    if seen:
                        keep = keep_weights > 0 and t % keep_weights == 0
                        log.write(name, t, seen | _extras(process, observables, keep))
                        if not all(np.isfinite(seen.get(kind, 0.0)) for kind in ("loss", "minibatch_loss")):
                            process.alive = False
                            notes.append(f"{name} stopped at step {t}: its loss is no longer finite")
            _compare(running, optimizer, log, t)
            for name, process in running.items():
                if process.alive and t < steps:
                    with notes.listening(name, t), _stopping(process, name, t, notes), _costing(problem, costs[name]):
                        process.advance()
            if callable(progress):
                progress(t, steps)
            bar.update(t > first)
        bar.close()
    record["seconds"] = time.perf_counter() - started
    if path is not None:
        path.unlink(missing_ok=True)
    series = {name: Series({"loss": np.full(steps + 1, np.nan), **log.arrays(name)}) for name in names}
    return Run(series, log.arrays("distance"), record, dict(costs), list(notes))


def _fitting(
    settings: Settings | None, substeps: int | None, problem: Problem, optimizer: Optimizer, w: Tensor
) -> Settings:
    """The settings of a run that starts at w (p,), after checking them against problem and optimizer."""
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise InputError(f"settings must be gfm.central.Settings, but they are a {type(settings).__name__}.")
    if substeps is not None:
        settings = replace(settings, substeps=substeps)
    if settings.track > problem.p:
        raise InputError(f"track asks for {settings.track} eigenpairs, but there are only {problem.p} weights.")
    if not settings.curvature_penalty and optimizer.memory(optimizer.update(optimizer.init(w), w)) is None:
        raise InputError(
            f"{type(optimizer).__name__} adapts no step size, so its flow cannot do without the curvature penalty."
        )
    return settings


def _described(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer as plain data."""
    lr = optimizer.lr
    return {
        **optimizer.describe(),
        # A schedule that is a dataclass describes itself; the rates are in the series.
        "schedule": "constant" if not callable(lr) else repr(lr) if is_dataclass(lr) else "a function of the step",
        "threshold": optimizer.threshold,
        "delay": optimizer.filter.delay,
    }


@contextmanager
def _stopping(process: Process, name: str, t: int, notes: Notes) -> Iterator[None]:
    """Stop a process that raises NumericalError, and add a note."""
    try:
        yield
    except NumericalError as failure:
        process.alive = False
        notes.append(f"{name} stopped at step {t}: {said(failure)}")


@contextmanager
def _costing(problem: Problem, costs: dict[str, float]) -> Iterator[None]:
    """Add the cost of the work to ``costs``: derivatives of the problem by kind, and seconds."""
    before, started = problem.costs.copy(), time.perf_counter()
    yield
    spent = {**asdict(problem.costs.since(before)), "seconds": time.perf_counter() - started}
    for name, value in spent.items():
        costs[name] = costs.get(name, 0) + value


def _extras(process: Process, observables: request.Observables, keep: bool) -> Observation:
    """The user's functions of the weights, the flow's expectation of them, and the weights themselves."""
    found: Observation = {}
    for key, function in observables.items():
        found[key] = flat_value(function, process.w)
        if isinstance(process, Central):
            found[f"predicted_{key}"] = predictions.expectation(function, process.w, process.oscillation)
    if keep:
        found["weights"] = process.w.detach().float().cpu().numpy()
    return found


def _compare(running: dict[str, Process], optimizer: Optimizer, log: Log, t: int) -> None:
    """Record distances between processes, and the optimizer's displacement along the eigenvectors of Sigma."""
    for a, b in combinations(running, 2):
        if running[a].alive and running[b].alive:
            log.write("distance", t, {f"{a}-{b}": float((running[a].w - running[b].w).norm())})
    central, discrete = running.get("central"), running.get("discrete")
    if isinstance(central, Central) and discrete is not None and central.alive and discrete.alive:
        E = diagonal(optimizer.edge(central.state))
        displacement = predictions.displacement(discrete.w - central.w, E, central.oscillation)
        log.write("central", t, {"displacement": displacement})
    for name, rival in running.items():
        if isinstance(rival, Rival) and discrete is not None and rival.alive and discrete.alive:
            log.write(name, t, {"displacement": rival.displacement(discrete.w)})
