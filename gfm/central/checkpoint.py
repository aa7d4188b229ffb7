"""Checkpoints of a lockstep run: enough to go on after a kill with the same result.

A checkpoint is a file of tensors and plain containers, read back with ``weights_only`` so that
nothing in it is executed; it carries a fingerprint of the call and is refused by any other call.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfm.central.processes import Process
from gfm.central.request import Request
from gfm.errors import UnreadableFileError
from gfm.optimizers import Optimizer, State
from gfm.problem import Costs, Problem

__all__ = ["Mark", "fingerprint", "read", "restore", "snapshot", "write"]

_FORMAT = "gfm-checkpoint/2"
# What each process changes while it moves; the rest follows from the call.
_MOVING = ("w", "alive", "seconds", "_previous", "_present", "_following", "_shrink", "_jump", "_before", "_began")
_TRACKING = ("rows", "past", "refreshes", "_warned")
# Of a run's settings, what another machine may have otherwise, and what the learning rates tell.
_ASIDE = ("threads", "schedule")


@dataclass(frozen=True)
class Mark:
    """What tells one call from another.

    digest: of data, start, module, optimizer with its learning rates, settings and what is recorded.
    losses: at the start and near it, which tell apart losses and modules that look alike. They are
    compared with a tolerance, since their last digits depend on the number of threads.
    """

    digest: str
    losses: list[float]

    def same(self, other: Mark) -> bool:
        return self.digest == other.digest and np.allclose(self.losses, other.losses, rtol=1e-4, atol=0, equal_nan=True)


def fingerprint(problem: Problem, optimizer: Optimizer, record: dict[str, Any], request: Request) -> Mark:
    """The mark of a call; costs three values of the loss. ``record``: the run's settings."""
    told = {name: value for name, value in record.items() if name not in _ASIDE}
    told["processes"], told["keep_weights"] = request.names, request.keep_weights
    told["observables"] = sorted(request.observables)
    told["rates"] = [optimizer.lr_at(t) for t in range(1, request.warmup + request.steps + 2)]
    told["module"] = repr(problem.module)
    told["batch_size"] = problem.batch_size
    digest = hashlib.sha256(repr(sorted(told.items())).encode())
    for tensor in (problem.inputs, problem.targets, problem.w0, request.w):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    away = torch.randn(problem.p, generator=torch.Generator().manual_seed(0)).to(request.w)
    away *= 0.1 * (1 + request.w.norm()) / away.norm()
    return Mark(digest.hexdigest(), [float(problem.loss(request.w + share * away)) for share in (0.0, 1.0, -1.0)])


def snapshot(process: Process) -> dict[str, Any]:
    """Everything that ``process`` would not find again by being made anew."""
    kept = {name: _plain(getattr(process, name)) for name in _MOVING if hasattr(process, name)}
    kept["state"] = asdict(process.state)
    kept["costs"] = asdict(process.costs)
    kept["tracker"] = {name: getattr(process.tracker, name) for name in _TRACKING}
    return kept


def restore(process: Process, kept: dict[str, Any]) -> None:
    """Put a snapshot back into a process of the same kind, settings and problem."""
    for name in _MOVING:
        if name in kept:
            value = kept[name]
            setattr(process, name, value.numpy() if name == "_before" and value is not None else value)
    process.state, process.costs = State(**kept["state"]), Costs(**kept["costs"])
    for name in _TRACKING:
        setattr(process.tracker, name, kept["tracker"][name])


def write(path: Path, mark: Mark, t: int, processes: dict[str, Process], seen: dict, notes: list[str]) -> None:
    """Write a checkpoint of step ``t``, before it is observed; atomic."""
    content = {
        "format": _FORMAT,
        "fingerprint": asdict(mark),
        "t": t,
        "processes": {name: snapshot(process) for name, process in processes.items()},
        "seen": {p: {n: {s: _plain(v) for s, v in rows.items()} for n, rows in names.items()} for p, names in seen.items()},
        "notes": list(notes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    torch.save(content, partial)
    os.replace(partial, path)


def read(path: Path, mark: Mark) -> dict[str, Any] | None:
    """The checkpoint at ``path`` if it belongs to the call, None if there is none.

    Raises:
        UnreadableFileError: a file that is no checkpoint, or one of another call.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
        known = content["format"] == _FORMAT and Mark(**content["fingerprint"]).same(mark)
    except Exception as failure:
        raise UnreadableFileError(f"{path} is not a readable checkpoint; remove it to start anew") from failure
    if not known:
        raise UnreadableFileError(f"{path} is a checkpoint of another run; remove it or choose another path")
    content["seen"] = {
        p: {n: {s: v.numpy() if isinstance(v, torch.Tensor) else v for s, v in rows.items()} for n, rows in names.items()}
        for p, names in content["seen"].items()
    }
    return content


def _plain(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
