"""Processes in lockstep from one start."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gfm.central import checkpoint as checkpoints
from gfm.central.process import flat_value
from gfm.central.processes import PROCESSES, Central, Process, Settings
from gfm.central.result import Run, Series
from gfm.errors import InputError, NumericalError, UnknownNameError
from gfm.optimizers import Optimizer, State
from gfm.problem import Problem

__all__ = ["run"]


def run(
    problem: Problem,
    optimizer: Optimizer,
    steps: int,
    *,
    processes: Iterable[str] = ("discrete", "stable", "central"),
    substeps: int = 4,
    warmup: int = 0,
    w0: Tensor | None = None,
    seed: int = 0,
    observables: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    keep_weights: int = 0,
    progress: bool | Callable[[int, int], None] = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    checkpoint_seconds: float = 0.0,
    **settings: Any,
) -> Run:
    """Run the optimizer and its flows side by side and measure them at every step.

    Args:
        problem: the training problem.
        optimizer: a rule of ``gfm.optimizers``.
        steps: optimizer steps, equal to units of flow time.
        processes: of "discrete", "midpoint", "stable", "central".
        substeps: Euler substeps of the flows in each step.
        warmup: discrete steps before all processes start (RMSProp starts beyond the edge).
        w0: (p,) start; default the module's own weights.
        seed: seeds torch's generator for anything random below; eigen-solvers seed themselves.
        observables: name to a function of the weights (p,) whose value is recorded, flattened; the
            central flow adds ``predicted_<name>``, its time average over the oscillation.
        keep_weights: store the weights of every process each so many steps (0: never).
        progress: True for a bar with an estimate of the time left, or a function of (steps done, steps).
        checkpoint: a file written each ``checkpoint_every`` steps, but at most once in
            ``checkpoint_seconds``; where it exists the run goes on from it, with the result that an
            unbroken run would have, and removes it at its end.
        settings: further fields of ``gfm.central.processes.Settings``.

    Returns:
        A ``Run``; every series holds loss, gradient_norm2, eigenvalues (of P^{-1} H, largest
        first), effective_step, ..., the central one predicted_loss, sigma, ...

    Raises:
        InputError: values that no run can have. UnknownNameError: an unknown process or setting.
        UnreadableFileError: the checkpoint is broken or belongs to another call.

    A process that leaves the finite numbers stops, stays NaN from there on, and is noted.
    """
    names = _check(problem, optimizer, steps, processes, substeps, warmup, keep_weights, checkpoint_every, settings)
    chosen = Settings(substeps=substeps, **settings)
    if not chosen.curvature_penalty and optimizer.memory(optimizer.update(optimizer.init(problem.w0), problem.w0)) is None:
        raise InputError(
            f"{type(optimizer).__name__} adapts no step size, so its flow cannot do without the curvature penalty"
        )
    w = problem.w0 if w0 is None else w0
    problem._check(w)
    torch.manual_seed(seed)
    started = time.perf_counter()
    record = {
        "optimizer": type(optimizer).__name__,
        **{f.name: getattr(optimizer, f.name) for f in fields(optimizer) if not callable(getattr(optimizer, f.name))},
        "threshold": optimizer.threshold,
        "steps": steps,
        "warmup": warmup,
        "seed": seed,
        **asdict(chosen),
        "p": problem.p,
        "n": problem.n,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        w, state = _warm_up(problem, optimizer, w.detach().clone(), warmup)
        alive = {name: _timed(problem, None, lambda n=name: PROCESSES[n](problem, optimizer, chosen, w, state)) for name in names}
        log = _Log(steps)
        first, written = 0, time.perf_counter()
        if checkpoint is not None:
            checkpoint = Path(checkpoint)
            mark = checkpoints.fingerprint(problem, {**record, "processes": names}, w)
            kept = checkpoints.read(checkpoint, mark)
            if kept is not None:
                first, log.seen, notes = kept["t"], kept["seen"], kept["notes"]
                for name, process in alive.items():
                    checkpoints.restore(process, kept["processes"][name])
        bar = tqdm(total=steps, initial=first, disable=progress is not True, desc=type(optimizer).__name__, unit="step")
        for t in range(first, steps + 1):
            due = t > first and t % checkpoint_every == 0 and time.perf_counter() - written >= checkpoint_seconds
            if checkpoint is not None and due:
                checkpoints.write(checkpoint, mark, t, alive, log.seen, notes)
                written = time.perf_counter()
            for name, process in alive.items():
                seen = _guarded(problem, process, name, t, notes, lambda q=process: q.observe(t)) or {}
                if process.alive or seen:
                    seen.update(_extras(process, observables or {}, keep_weights and t % keep_weights == 0))
                log.write(name, t, seen)
            _compare(alive, log, t)
            if t < steps:
                for name, process in alive.items():
                    _guarded(problem, process, name, t, notes, process.advance)
            if callable(progress):
                progress(t, steps)
            bar.update(t > first)
        bar.close()
    notes += sorted({str(item.message) for item in caught})
    for note in notes:
        warnings.warn(note, stacklevel=2)
    record["seconds"] = time.perf_counter() - started
    costs = {name: {**asdict(process.costs), "seconds": process.seconds} for name, process in alive.items()}
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Run(log.series(names), log.distances(), record, costs, notes)


def _check(
    problem: Problem, optimizer: Optimizer, steps: int, processes: Iterable[str], substeps: int, warmup: int,
    keep_weights: int, checkpoint_every: int, settings: Mapping[str, Any],
) -> list[str]:
    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a gfm.Problem, but it is a {type(problem).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"optimizer must be a rule of gfm.optimizers, but it is a {type(optimizer).__name__}"
        )
    for name, value, least in (("steps", steps, 1), ("substeps", substeps, 1), ("warmup", warmup, 0), ("keep_weights", keep_weights, 0), ("checkpoint_every", checkpoint_every, 1)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise InputError(f"{name} must be a whole number of at least {least}, but it is {value!r}")
    names = [processes] if isinstance(processes, str) else list(processes)
    for name in names:
        if name not in PROCESSES:
            raise UnknownNameError(f"unknown process {name!r}; choose from {', '.join(PROCESSES)}")
    if not names or len(set(names)) != len(names):
        raise InputError("processes must name at least one process, and each only once")
    known = {f.name for f in fields(Settings)} - {"substeps"}
    for name in settings:
        if name not in known:
            raise UnknownNameError(f"unknown setting {name!r}; choose from {', '.join(sorted(known))}")
    return names


def _warm_up(problem: Problem, optimizer: Optimizer, w: Tensor, warmup: int) -> tuple[Tensor, State]:
    state = optimizer.init(w)
    for _ in range(warmup):
        gradient = problem.gradient(w)
        state = optimizer.update(state, gradient)
        w = optimizer.step(w, state, gradient)
    return w, state


def _guarded(
    problem: Problem, process: Process, name: str, t: int, notes: list[str], work: Callable[[], Any]
) -> Any:
    """Do a living process's work; one that leaves the finite numbers is stopped and noted."""
    if not process.alive:
        return None
    try:
        done = _timed(problem, process, work)
    except NumericalError as failure:
        process.alive = False
        notes.append(f"{name} stopped at step {t}: {failure}")
        return None
    if isinstance(done, dict) and not math.isfinite(done["loss"]):
        process.alive = False
        notes.append(f"{name} stopped at step {t}: its loss is no longer finite")
    return done


def _extras(process: Process, observables: Mapping[str, Callable[[Tensor], Tensor]], weights: bool) -> dict[str, Any]:
    """The user's functions of the weights, the flow's expectation of them, and the weights themselves."""
    found: dict[str, Any] = {}
    for key, function in observables.items():
        found[key] = flat_value(function, process.w)
        if isinstance(process, Central):
            found[f"predicted_{key}"] = process.expectation(function)
    if weights:
        found["weights"] = process.w.detach().float().cpu().numpy()
    return found


def _timed(problem: Problem, process: Process | None, work: Callable[[], Any]) -> Any:
    """Do the work and book its costs on the process (on the one it returns, when it makes one)."""
    before, started = problem.costs.copy(), time.perf_counter()
    done = work()
    process = done if process is None else process
    spent = problem.costs.since(before)
    for name in ("gradients", "hvps", "thirds"):
        setattr(process.costs, name, getattr(process.costs, name) + getattr(spent, name))
    process.seconds += time.perf_counter() - started
    return done


def _compare(alive: dict[str, Process], log: _Log, t: int) -> None:
    """Distances between processes, and the discrete one's displacement along the flow's Sigma."""
    for a, b in combinations(alive, 2):
        if alive[a].alive and alive[b].alive:
            log.write("distance", t, {f"{a}-{b}": float((alive[a].w - alive[b].w).norm())})
    central, discrete = alive.get("central"), alive.get("discrete")
    if isinstance(central, Central) and discrete is not None and central.alive and discrete.alive:
        log.write("central", t, {"displacement": central.displacement(discrete.w)})


class _Log:
    """Observations by process, step and name; rows of different length are padded with NaN."""

    def __init__(self, steps: int):
        self.steps = steps
        self.seen: dict[str, dict[str, dict[int, Any]]] = {}

    def write(self, process: str, t: int, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self.seen.setdefault(process, {}).setdefault(name, {})[t] = value

    def _arrays(self, process: str) -> dict[str, np.ndarray]:
        arrays = {} if process == "distance" else {"loss": np.full(self.steps + 1, np.nan)}
        for name, rows in self.seen.get(process, {}).items():
            if name == "weights":
                arrays["weights"] = np.stack([rows[t] for t in sorted(rows)])
                arrays["weights_steps"] = np.array(sorted(rows))
                continue
            vector = isinstance(next(iter(rows.values())), np.ndarray)
            width = max((len(v) for v in rows.values()), default=0) if vector else 0
            array = np.full((self.steps + 1, width) if vector else (self.steps + 1,), np.nan)
            for t, value in rows.items():
                if vector:
                    array[t, : len(value)] = value
                else:
                    array[t] = value
            arrays[name] = array
        return arrays

    def series(self, names: list[str]) -> dict[str, Series]:
        return {name: Series(self._arrays(name)) for name in names}

    def distances(self) -> dict[str, np.ndarray]:
        return self._arrays("distance")
