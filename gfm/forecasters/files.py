"""Forecasting from files: observed weights on disk in, forecast weights on disk out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gfm.errors import InputError, UnknownNameError
from gfm.forecasters import available
from gfm.trajectories import Trajectories
from gfm.trajectories.checkpoints import read_checkpoints

__all__ = ["forecast_files", "read"]


def read(path: str | Path) -> Trajectories:
    """Trajectories of a ``.npz`` file, or one run from a folder of checkpoints.

    Raises:
        UnreadableFileError, InputError: as the two readers raise them.
    """
    return read_checkpoints(path) if Path(path).is_dir() else Trajectories.load(path)


def forecast_files(observed: str | Path, horizon: int, method: str,
                   train: str | Path | None = None) -> Trajectories:
    """Continue observed weights by ``horizon`` recorded steps.

    observed: a folder of checkpoints (one run), or a file of ``Trajectories.save``; all its states are
        the prefix.
    method: a name of ``gfm.forecasters.available()``.
    train: a file (or folder) of longer trajectories to learn from; rules that learn nothing need none.

    Returns: the last observed state and the forecast ones, with their optimizer steps.

    Raises:
        UnknownNameError: an unknown method.
        InputError: training data are missing or were recorded at other distances.
        GfmError: what reading and forecasting raise.
    """
    kinds = available()
    if method not in kinds:
        raise UnknownNameError(f"Unknown forecaster {method!r}: choose one of {', '.join(kinds)}.")
    prefix = read(observed)
    stride = _stride(prefix, "The observed run")
    model = kinds[method](observed=prefix.weights.shape[1] - 1)
    if train is not None:
        longer = read(train)
        if _stride(longer, "The training data") != stride:
            raise InputError("Training data and observed run were recorded at different distances.")
        model.fit(longer)
    elif not kinds[method].learns():
        padded = np.concatenate([prefix.weights, prefix.weights[:, -1:]], axis=1)
        model.fit(Trajectories(padded))  # learns nothing; only the prefix's length is taken over
    else:
        raise InputError(f"The forecaster {method!r} learns from whole runs: give them with --train.")
    found = model.forecast(prefix.weights, horizon)
    steps = prefix.steps[-1] + stride * np.arange(horizon + 1)
    return Trajectories(np.concatenate([prefix.weights[:, -1:], found], axis=1), steps,
                        prefix.groups, {**prefix.meta, "forecast by": method})


def _stride(data: Trajectories, what: str) -> int:
    distances = set(np.diff(data.steps).tolist())
    if len(distances) != 1:
        raise InputError(f"{what} must be recorded at even distances; they are {sorted(distances)[:5]}.")
    return distances.pop()
