"""Run processes side by side, step by step, from one start."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gfm.central import checkpoint as checkpoints
from gfm.central.log import Log, Notes
from gfm.central.process import flat_value
from gfm.central.processes import PROCESSES, Central, Process
from gfm.central.request import Request, checked
from gfm.central.result import Run
from gfm.errors import NumericalError
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
        keep_weights: steps between stored weights of every process (0: none are stored).
        progress: True for a bar with an estimate of the time left, or a function of (steps done, steps).
        checkpoint: a file to resume from. Where it exists the run goes on from it, with the result of an
            uninterrupted run, and removes it at its end.
        checkpoint_every: steps between writes of the checkpoint.
        checkpoint_seconds: least time between writes.
        **settings: further fields of ``gfm.central.settings.Settings``.

    Returns:
        A ``Run``. Every series holds loss, gradient_norm2, eigenvalues (of P^{-1} H, largest first),
        effective_step and more, lr where it is scheduled; the central flow's also predicted_loss and sigma.
        A process whose numbers are no longer finite stops, is NaN from there on, and is noted. Costs are by
        process; those of a warm-up are under "warmup".

    Raises:
        InputError: a value out of range or of the wrong kind.
        UnknownNameError: an unknown process or setting.
        UnreadableFileError: the checkpoint is broken or belongs to another call.
    """
    request = checked(
        problem, optimizer, steps, processes=processes, substeps=substeps, warmup=warmup, w0=w0, seed=seed,
        observables=observables, keep_weights=keep_weights, progress=progress, checkpoint=checkpoint,
        checkpoint_every=checkpoint_every, checkpoint_seconds=checkpoint_seconds, settings=settings,
    )
    steps, names, checkpoint = request.steps, request.names, request.checkpoint
    torch.manual_seed(request.seed)
    started, before = time.perf_counter(), problem.costs.copy()
    record = _record(problem, optimizer, request)
    w, state = _warm_up(problem, optimizer, request.w.detach().clone(), request.warmup)
    costs = {}
    if request.warmup:
        costs["warmup"] = {**asdict(problem.costs.since(before)), "seconds": time.perf_counter() - started}
    notes, log = Notes(), Log(steps)
    alive: dict[str, Process] = {}
    for name in names:
        with notes.listening(name, 0):
            kind = PROCESSES[name]
            alive[name] = _timed(problem, None, lambda k=kind: k(problem, optimizer, request.settings, w, state))
    first, written = 0, time.perf_counter()
    if checkpoint is not None:
        mark = checkpoints.fingerprint(problem, optimizer, record, request)
        kept = checkpoints.read(checkpoint, mark)
        if kept is not None:
            first, log.seen, notes = kept["t"], kept["seen"], Notes(kept["notes"])
            for name, process in alive.items():
                process.load_state_dict(kept["processes"][name])
    bar = tqdm(total=steps, initial=first, disable=progress is not True, desc=type(optimizer).__name__, unit="step")
    for t in range(first, steps + 1):
        due = t > first and t % request.checkpoint_every == 0
        if checkpoint is not None and due and time.perf_counter() - written >= request.checkpoint_seconds:
            checkpoints.write(checkpoint, mark, t, alive, log.seen, notes)
            written = time.perf_counter()
        for name, process in alive.items():
            with notes.listening(name, t):
                seen = _guarded(problem, process, name, t, notes, lambda q=process, t=t: q.observe(t)) or {}
                if process.alive or seen:
                    seen.update(_extras(process, request.observables, _due(request.keep_weights, t)))
            log.write(name, t, seen)
        _compare(alive, log, t)
        if t < steps:
            for name, process in alive.items():
                with notes.listening(name, t):
                    _guarded(problem, process, name, t, notes, process.advance)
        if callable(progress):
            progress(t, steps)
        bar.update(t > first)
    bar.close()
    record["seconds"] = time.perf_counter() - started
    costs |= {name: {**asdict(process.costs), "seconds": process.seconds} for name, process in alive.items()}
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return Run(log.series(names), log.distances(), record, costs, list(notes))


def _record(problem: Problem, optimizer: Optimizer, request: Request) -> dict[str, Any]:
    """The run's settings, as plain data."""
    lr = optimizer.lr
    return {
        "optimizer": type(optimizer).__name__,
        **{f.name: getattr(optimizer, f.name) for f in fields(optimizer) if not callable(getattr(optimizer, f.name))},
        # A schedule that is a dataclass says itself what it is; the rates themselves are in the series.
        "schedule": "constant" if not callable(lr) else repr(lr) if is_dataclass(lr) else "a function of the step",
        "threshold": optimizer.threshold,
        "steps": request.steps,
        "warmup": request.warmup,
        "seed": request.seed,
        **asdict(request.settings),
        "p": problem.p,
        "n": problem.n,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _due(every: int, t: int) -> bool:
    return bool(every) and t % every == 0


def _warm_up(problem: Problem, optimizer: Optimizer, w: Tensor, warmup: int) -> tuple[Tensor, State]:
    state = optimizer.init(w)
    for _ in range(warmup):
        gradient = problem.gradient(w)
        state = optimizer.update(state, gradient)
        w = optimizer.step(w, state, gradient)
    return w, state


def _guarded(
    problem: Problem, process: Process, name: str, t: int, notes: Notes, work: Callable[[], Any]
) -> Any:
    """Do the work of a process that is alive; stop and note it where its numbers are no longer finite."""
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
    """Do the work and add its costs to the process; None: to the one that the work makes."""
    before, started = problem.costs.copy(), time.perf_counter()
    done = work()
    process = done if process is None else process
    spent = problem.costs.since(before)
    for name in ("gradients", "hvps", "thirds"):
        setattr(process.costs, name, getattr(process.costs, name) + getattr(spent, name))
    process.seconds += time.perf_counter() - started
    return done


def _compare(alive: dict[str, Process], log: Log, t: int) -> None:
    """Distances between processes, and the discrete one's displacement along the flow's Sigma."""
    for a, b in combinations(alive, 2):
        if alive[a].alive and alive[b].alive:
            log.write("distance", t, {f"{a}-{b}": float((alive[a].w - alive[b].w).norm())})
    central, discrete = alive.get("central"), alive.get("discrete")
    if isinstance(central, Central) and discrete is not None and central.alive and discrete.alive:
        log.write("central", t, {"displacement": central.displacement(discrete.w)})
