"""Methods of ``Trajectories``: joined run by run, resampled in time, continued by a forecast, of chosen weights."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gfm.checks import whole
from gfm.errors import InputError
from gfm.trajectories.arrays import as_array

if TYPE_CHECKING:
    from gfm.trajectories.trajectories import Trajectories

__all__ = ["concat", "continued", "resampled", "select_weights"]


def concat(cls: "type[Trajectories]", parts: "Iterable[Trajectories]") -> "Trajectories":
    """The runs of several trajectories of one kind, one after the other; of ``meta`` what all share is kept.

    Raises:
        InputError: There are none, or they differ in steps, tensors or labels of the weights, dtype, optimizer
            (with its learning rate, schedule and options), or in what is recorded beside the weights; ``meta``
            holds arrays.
    """
    if not isinstance(parts, Iterable) or type(parts) is torch.Tensor:
        parts = []
    parts = list(parts)
    if not parts or not all(isinstance(part, cls) for part in parts):
        raise InputError("concat takes a list of Trajectories, at least one.")
    first, meta = parts[0], parts[0].meta
    for number, part in enumerate(parts):
        try:
            other = [word for word, kind in _kind(part).items() if kind != _kind(first)[word]]
            meta = {key: value for key, value in meta.items() if key in part.meta and part.meta[key] == value}
        except ValueError:
            raise InputError("meta of the trajectories holds an array, but it is for what JSON can hold.") from None
        if first.layout is not None and part.layout is not None and not first.layout.same_as(part.layout):
            other.append("layout")
        if other:
            raise InputError(f"Trajectories {number} are of another kind than the first: their {other[0]} differ.")
    return first.replaced(
        weights=np.concatenate([part.weights for part in parts]),
        meta=meta,
        states={name: np.concatenate([part.states[name] for part in parts]) for name in first.states},
        buffers={name: np.concatenate([part.buffers[name] for part in parts]) for name in first.buffers},
    )


def _kind(data: "Trajectories") -> dict[str, Any]:
    """What runs of one kind share, layouts apart."""
    return {
        "steps": data.steps.tolist(),
        "number of weights": data.parameters,
        "dtype": data.weights.dtype,
        "names and shapes": data.layout is None,
        "groups": data.groups,
        **{word: data.meta.get(word) for word in ("optimizer", "lr", "options", "schedule")},
        "optimizer states": sorted(data.states),
        "buffers": {name: (value.dtype, value.shape[2:]) for name, value in data.buffers.items()},
    }


def resampled(self: "Trajectories", stride: int) -> "Trajectories":  # noqa: D417
    """States at even distances from the first to the last recorded step, by linear interpolation in the steps.

    Recorded states are kept exactly. Buffers are those of the nearest recorded state (of two, the earlier).

    Args:
        stride: optimizer steps between the new states; it must divide the distance from first to last.

    Raises:
        InputError: The stride is no whole number of at least 1, or does not divide that distance.

    Example:
        >>> from gfm import Trajectories
        >>> data = Trajectories(np.array([[[0.0], [1.0], [3.0]]]), steps=[0, 1, 5])
        >>> data.resampled(1).weights[0, :, 0].tolist()
        [0.0, 1.0, 1.5, 2.0, 2.5, 3.0]
    """
    first, last = int(self.steps[0]), int(self.steps[-1])
    if (last - first) % whole("stride", stride, 1):
        raise InputError(f"The stride {stride} does not divide the {last - first} steps from {first} to {last}.")
    steps = np.arange(first, last + 1, stride)
    right = np.clip(np.searchsorted(self.steps, steps), 1, len(self.steps) - 1)
    share = (steps - self.steps[right - 1]) / (self.steps[right] - self.steps[right - 1])
    nearest = np.where(share > 0.5, right, right - 1)

    def between(values: np.ndarray) -> np.ndarray:
        s = share.astype(values.dtype)[:, None]
        return (1 - s) * values[:, right - 1] + s * values[:, right]

    return self.replaced(
        weights=between(self.weights),
        steps=steps,
        states={name: between(value) for name, value in self.states.items()},
        buffers={name: value[:, nearest] for name, value in self.buffers.items()},
    )


def continued(self: "Trajectories", forecast: Any) -> "Trajectories":  # noqa: D417
    """The last state followed by forecast ones, at the same distances; buffers stay as in the last state.

    Args:
        forecast: (runs, horizon, parameters), as a forecaster returns it.

    Raises:
        InputError: The forecast has another shape, or the states were recorded at uneven distances.
    """
    found = as_array(forecast, "The forecast")
    if found.dtype.kind != "f":
        raise InputError(f"A forecast must be floating point; got {found.dtype}.")
    if found.ndim != 3 or found.shape[::2] != (self.runs, self.parameters) or not found.shape[1]:
        raise InputError(
            f"A forecast of shape ({self.runs}, horizon, {self.parameters}) is needed; got {found.shape}."
        )
    steps = self.steps[-1] + self.stride * np.arange(found.shape[1] + 1)
    return self.replaced(
        weights=np.concatenate([self.weights[:, -1:], found.astype(self.weights.dtype, copy=False)], axis=1),
        steps=steps,
        states=None,
        buffers={name: np.broadcast_to(value[:, -1:], (self.runs, len(steps), *value.shape[2:]))
                 for name, value in self.buffers.items()},
    )


def select_weights(self: "Trajectories", numbers: Sequence[int] | np.ndarray) -> "Trajectories":  # noqa: D417
    """The chosen weights in all runs and states, with their optimizer states, labels and edges; no layout.

    Args:
        numbers: (m,) of the weights, counted from 0; the new weights are in this order.

    Raises:
        InputError: They are not whole numbers, there are none, or there is no such weight.
    """
    at = as_array(numbers, "The numbers of weights")
    if at.ndim != 1 or at.dtype.kind not in "iu" or not at.size or at.min() < 0 or at.max() >= self.parameters:
        raise InputError(f"Weights are chosen by a list of whole numbers between 0 and {self.parameters - 1}.")
    meta = dict(self.meta)
    if "edges" in meta:
        edges = meta["edges"]
        meta["edges"] = [edges[number] for number in at] if len(edges) == self.parameters else edges
    return self.replaced(
        weights=np.ascontiguousarray(self.weights[:, :, at]),
        groups=None if self.groups is None else [self.groups[number] for number in at],
        meta=meta,
        states={name: np.ascontiguousarray(value[:, :, at]) for name, value in self.states.items()},
        layout=None,
    )
