"""Trajectories made from others: joined run by run, resampled in time, continued by a forecast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from gfm.checks import whole
from gfm.errors import InputError
from gfm.trajectories.arrays import as_array
from gfm.trajectories.trajectories import Trajectories

__all__ = ["concat", "continued", "resampled"]


def concat(parts: Iterable[Trajectories]) -> Trajectories:
    """See :meth:`Trajectories.concat`."""
    if not isinstance(parts, Iterable) or type(parts) is torch.Tensor:
        parts = []
    parts = list(parts)
    if not parts or not all(isinstance(part, Trajectories) for part in parts):
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
    return Trajectories(
        np.concatenate([part.weights for part in parts]),
        first.steps,
        first.groups,
        meta,
        {name: np.concatenate([part.states[name] for part in parts]) for name in first.states},
        first.layout,
        {name: np.concatenate([part.buffers[name] for part in parts]) for name in first.buffers},
    )


def _kind(data: Trajectories) -> dict[str, Any]:
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


def resampled(data: Trajectories, stride: int) -> Trajectories:
    """See :meth:`Trajectories.resampled`."""
    first, last = int(data.steps[0]), int(data.steps[-1])
    if (last - first) % whole("stride", stride, 1):
        raise InputError(f"The stride {stride} does not divide the {last - first} steps from {first} to {last}.")
    steps = np.arange(first, last + 1, stride)
    right = np.clip(np.searchsorted(data.steps, steps), 1, len(data.steps) - 1)
    share = (steps - data.steps[right - 1]) / (data.steps[right] - data.steps[right - 1])
    nearest = np.where(share > 0.5, right, right - 1)

    def between(values: np.ndarray) -> np.ndarray:
        s = share.astype(values.dtype)[:, None]
        return (1 - s) * values[:, right - 1] + s * values[:, right]

    return Trajectories(
        between(data.weights),
        steps,
        data.groups,
        data.meta,
        {name: between(value) for name, value in data.states.items()},
        data.layout,
        {name: value[:, nearest] for name, value in data.buffers.items()},
    )


def continued(data: Trajectories, forecast: Any) -> Trajectories:
    """See :meth:`Trajectories.continued`."""
    found = as_array(forecast, "The forecast")
    if found.dtype.kind != "f":
        raise InputError(f"A forecast must be floating point; got {found.dtype}.")
    if found.ndim != 3 or found.shape[::2] != (data.runs, data.parameters) or not found.shape[1]:
        raise InputError(
            f"A forecast of shape ({data.runs}, horizon, {data.parameters}) is needed; got {found.shape}."
        )
    steps = data.steps[-1] + data.stride * np.arange(found.shape[1] + 1)
    return Trajectories(
        np.concatenate([data.weights[:, -1:], found.astype(data.weights.dtype, copy=False)], axis=1),
        steps,
        data.groups,
        data.meta,
        layout=data.layout,
        buffers={name: np.broadcast_to(value[:, -1:], (data.runs, len(steps), *value.shape[2:]))
                 for name, value in data.buffers.items()},
    )
