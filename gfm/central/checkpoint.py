"""Checkpoints of a lockstep run, from which a killed run resumes with the same result.

A checkpoint is a file of tensors and plain containers with a checksum, read with ``weights_only`` so that nothing in
it is executed. It carries a fingerprint of the call and is refused by any other call.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfm.central.base import Process
from gfm.errors import UnreadableFileError
from gfm.files import read_sealed, write_sealed
from gfm.problem import Problem
from gfm.randomness import seeding

__all__ = ["Fingerprint", "fingerprint", "read", "write"]

_FORMAT = "gfm-checkpoint/9"
# Settings left out of the fingerprint: threads may differ between machines, a schedule is identified by its rates.
_ASIDE = ("threads", "schedule")


@dataclass(frozen=True)
class Fingerprint:
    """What distinguishes one call from another.

    Attributes:
        digest: of data, start, module, optimizer with its learning rates, settings and recorded quantities.
        values: of the loss at the start and near it, and of observables at the start, because different functions
            may have the same description; compared within a tolerance, because their last digits depend on the
            number of threads.
    """

    digest: str
    values: list[float]

    def same(self, other: "Fingerprint") -> bool:
        """Whether both belong to the same call."""
        return self.digest == other.digest and np.allclose(self.values, other.values, rtol=1e-4, atol=0, equal_nan=True)


def fingerprint(
    problem: Problem, told: Mapping[str, Any], w: Tensor, observables: Mapping[str, Callable[[Tensor], Tensor]]
) -> Fingerprint:
    """The fingerprint of a call that starts at w (p,); costs three values of the loss.

    Args:
        problem: the training problem.
        told: everything else that distinguishes the call, as plain data.
        w: the start.
        observables: functions of the weights (p,), known by their names and their sizes at the start.
    """
    told = {name: value for name, value in told.items() if name not in _ASIDE}
    told |= {"module": repr(problem.module), "batch_size": problem.batch_size}
    digest = hashlib.sha256(repr(sorted(told.items())).encode())
    for tensor in (problem.inputs, problem.targets, problem.w0, w):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    away = torch.randn(problem.p, generator=torch.Generator().manual_seed(0)).to(w)
    away *= 0.1 * (1 + w.norm()) / away.norm()
    values = [float(problem.loss(w + share * away)) for share in (0.0, 1.0, -1.0)]
    with torch.no_grad(), seeding(0, problem.device):
        values += [float(observables[name](w).double().norm()) for name in sorted(observables)]
    return Fingerprint(digest.hexdigest(), values)


def write(
    path: Path, call: Fingerprint, t: int, processes: dict[str, Process], costs: dict, seen: dict, notes: list[str]
) -> None:
    """Write a checkpoint at step ``t``, before it is observed, atomically."""
    content = {
        "format": _FORMAT,
        "fingerprint": asdict(call),
        "t": t,
        "random": torch.get_rng_state(),
        "processes": _mapped({name: process.state_dict() for name, process in processes.items()}, _fetched),
        "costs": dict(costs),
        "seen": _mapped(seen, lambda value: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value),
        "notes": list(notes),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_sealed(path, buffer.getvalue())


def read(path: Path, call: Fingerprint, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint at ``path`` if it belongs to the call, None if there is none; its states for this device.

    Raises:
        UnreadableFileError: The file is not a checkpoint, or it belongs to another call or version of the format.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(io.BytesIO(read_sealed(path)), weights_only=True)
        current, known = content["format"] == _FORMAT, Fingerprint(**content["fingerprint"]).same(call)
    except Exception as failure:
        raise UnreadableFileError(f"{path} is not a readable checkpoint; remove it to start anew.") from failure
    if not current:
        raise UnreadableFileError(f"{path} was written by another version of gfm; remove it to start anew.")
    if not known:
        raise UnreadableFileError(f"{path} is a checkpoint of another run; remove it or choose another path.")
    content["seen"] = _mapped(content["seen"], lambda value: value.numpy() if isinstance(value, Tensor) else value)
    content["processes"] = _mapped(content["processes"], lambda value: _moved(value, device))
    return content


def _fetched(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


def _moved(value: Any, device: torch.device) -> Any:
    """Indices and states of generators stay on the processor."""
    return value.to(device) if isinstance(value, Tensor) and value.is_floating_point() else value


def _mapped(content: Any, convert: Callable[[Any], Any]) -> Any:
    """Nested dictionaries, lists and tuples with every value converted."""
    if isinstance(content, dict):
        return {name: _mapped(value, convert) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(_mapped(value, convert) for value in content)
    return convert(content)
