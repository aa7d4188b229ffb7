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
    """Trajectories from a ``.npz`` file, or one run from a folder of checkpoints.

    Raises:
        UnreadableFileError: The file or a checkpoint cannot be read.
        InputError: The checkpoints do not form one run; see :func:`gfm.trajectories.read_checkpoints`.
    """
    return read_checkpoints(path) if Path(path).is_dir() else Trajectories.load(path)


def forecast_files(observed: str | Path, horizon: int, method: str,
                   train: str | Path | None = None) -> Trajectories:
    """Continue observed weights by ``horizon`` recorded steps.

    Args:
        observed: a folder of checkpoints (one run), or a file written by ``Trajectories.save``; all its states
            form the prefix.
        horizon: number of recorded steps to forecast.
        method: a name in ``gfm.forecasters.available()``.
        train: a file (or folder) of longer trajectories to learn from; not needed by rules that learn nothing.

    Returns:
        The last observed state and the forecast ones, with their optimizer steps.

    Raises:
        UnknownNameError: The method is unknown.
        InputError: Training data are missing, or were recorded at other intervals than the observed run.
        GfmError: Reading or forecasting fails.
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
        model.fit(Trajectories(padded))  # learns nothing but the length of the prefix
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
