"""Forecasting from files: observed weights on disk in, forecast weights on disk out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gfm.checks import place
from gfm.errors import InputError, UnknownNameError
from gfm.forecasters import available
from gfm.trajectories import Trajectories
from gfm.trajectories.checkpoints import read_checkpoints
from gfm.trajectories.finding import find

__all__ = ["forecast_files", "read", "save_as_read"]


def read(path: str | Path, resample: int | None = None, **reading: Any) -> Trajectories:
    """Trajectories from a ``.npz`` file, or one run from a folder of checkpoints.

    Weights of files that do not keep the module's order (``.safetensors``) are in the order of the file or of
    the names, as ``meta["order"]`` says, unless the module is given.

    Args:
        path: of the file or folder.
        resample: if given, see :meth:`gfm.Trajectories.resampled`.
        **reading: ``pattern``, ``step``, ``key`` and ``module`` of :func:`gfm.trajectories.read_checkpoints`.

    Raises:
        UnreadableFileError: The file or a checkpoint cannot be read.
        InputError: The checkpoints do not form one run, or an option does not fit.
    """
    if place("The observed or training path", path).is_dir():
        data = read_checkpoints(path, order="file", **reading)
    elif reading:
        raise InputError(f"{path} is no folder of checkpoints, so {', '.join(reading)} cannot be used.")
    else:
        data = Trajectories.load(path)
    return data if resample is None else data.resampled(resample)


def forecast_files(observed: str | Path, horizon: int, method: str, train: str | Path | None = None,
                   resample: int | None = None, **reading: Any) -> Trajectories:
    """Continue observed weights by ``horizon`` recorded steps.

    Args:
        observed: a folder of checkpoints (one run), or a file written by ``Trajectories.save``; all its states
            form the prefix.
        horizon: number of recorded steps to forecast.
        method: a name in ``gfm.forecasters.available()``.
        train: a file (or folder) of longer trajectories to learn from; not needed by rules that learn nothing.
        resample: optimizer steps between states, for runs that were recorded at uneven distances; interpolated.
        **reading: how to read a folder: see :func:`read`.

    Returns:
        The last observed state and the forecast ones, with their optimizer steps, tensors' names and buffers.

    Raises:
        UnknownNameError: The method is unknown.
        InputError: Training data are missing, were recorded at other intervals than the observed run, or have other
            weights although the forecaster looks at all of them together.
        GfmError: Reading or forecasting fails.
    """
    kinds = available()
    if method not in kinds:
        raise UnknownNameError(f"Unknown forecaster {method!r}: choose one of {', '.join(kinds)}.")
    prefix = read(observed, resample, **reading)
    stride = prefix.stride
    model = kinds[method](observed=prefix.weights.shape[1] - 1)
    if train is not None:
        longer = read(train, resample)
        if longer.stride != stride:
            raise InputError(f"The training data were recorded at different distances ({longer.stride} steps) than the "
                             f"observed run ({stride}).")
        if not model.coordinatewise and None not in (longer.groups, prefix.groups) and longer.groups != prefix.groups:
            raise InputError(f"{method!r} looks at all weights together, but the training data have other tensors than "
                             "the observed run, or in another order.")
        model.fit(longer)
    elif not kinds[method].learns():
        padded = np.concatenate([prefix.weights, prefix.weights[:, -1:]], axis=1)
        model.fit(Trajectories(padded))  # learns nothing but the length of the prefix
    else:
        raise InputError(f"The forecaster {method!r} learns from whole runs: give them with --train.")
    found = prefix.continued(model.forecast(prefix.weights, horizon))
    found.meta["forecast by"] = method
    return found


def save_as_read(found: Trajectories, path: str | Path, observed: str | Path, **reading: Any) -> Path:
    """Write the last state of ``found`` as a checkpoint in the format of the last one observed.

    Args:
        found: what :func:`forecast_files` returned.
        path: file to write, or folder if the observed checkpoints are folders.
        observed: the folder of checkpoints.
        **reading: as it was read.

    Raises:
        InputError: ``observed`` is no folder of checkpoints, or ``path`` exists, lies among them or cannot be written.
        UnreadableFileError: A checkpoint cannot be read.
    """
    folder, target = place("observed", observed), place("path", path)
    if not folder.is_dir():
        raise InputError(f"{observed} is no folder of checkpoints, so there is no format for a checkpoint.")
    last = find(folder, **{name: reading[name] for name in ("pattern", "step") if name in reading}).files[-1]
    if target.resolve().parent in (folder.resolve(), last.resolve().parent):
        raise InputError(f"{target} lies among the observed checkpoints, as if it were one: name another folder.")
    return found.save_checkpoint(target, last if last.parent == folder else last.parent, key=reading.get("key"))
