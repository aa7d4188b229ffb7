"""Forecasting from files: observed weights on disk in, forecast weights on disk out."""

from pathlib import Path
from typing import Any

import numpy as np

from gfm.checks import MOST, known, place, whole
from gfm.errors import InputError
from gfm.forecasters import available, load
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


def forecast_files(
    observed: str | Path, horizon: int, method: str | None = None, train: str | Path | None = None,
    resample: int | None = None, *, model: str | Path | None = None, save_model: str | Path | None = None,
    max_weights: int | None = None, device: str | None = None, **reading: Any,
) -> Trajectories:
    """Continue observed weights by ``horizon`` recorded steps.

    Args:
        observed: a folder of checkpoints (one run), or a file written by ``Trajectories.save``; all its states
            form the prefix.
        horizon: number of recorded steps to forecast.
        method: a name in ``gfm.forecasters.available()``; by default ``"gfm"``, or what ``model`` holds.
        train: a file (or folder) of longer trajectories to learn from; rules that learn nothing do not need it.
            Their optimizer states are ignored if the observed run has none.
        resample: optimizer steps between states after interpolation, for runs that were recorded at uneven distances.
        model: a file of a fitted forecaster (``Forecaster.save``), instead of a method and training data.
        save_model: a file to which the forecaster fitted to ``train`` is written.
        max_weights: the largest number of weights of each run to learn from, see ``Forecaster.fit``.
        device: where a network is trained, likewise.
        **reading: how to read a folder: see :func:`read`.

    Returns:
        The last observed state and the forecast ones, with their optimizer steps, tensors' names and buffers;
        ``meta["forecast by"]`` names the forecaster.

    Raises:
        UnknownNameError: The method is unknown.
        UnreadableFileError: A file cannot be read.
        InputError: Training data are missing, were recorded at other intervals than the observed run, or have other
            weights although the forecaster looks at all of them together; or the model was fitted to another number of
            observed states, to another optimizer's runs, or the options contradict each other.
        GfmError: Reading or forecasting fails.
    """
    fitting = {"method": method, "train": train, "save_model": save_model, "max_weights": max_weights, "device": device}
    given = [name for name, value in fitting.items() if value is not None]
    if model is not None and given:
        raise InputError(f"A saved model is fitted already: leave out {' and '.join(map(_option, given))}.")
    if save_model is not None and place("save_model", save_model).is_dir():
        raise InputError(f"{save_model} is a folder: name a file for the model.")
    without = [name for name in ("save_model", "max_weights", "device") if name in given]
    if train is None and without:
        raise InputError(f"{_option(without[0])} is for what is learned from longer runs: give them with --train.")
    kinds = available()
    method = "gfm" if method is None else method
    if model is None:
        known("forecaster", method, kinds)
    whole("horizon", horizon, 1, MOST)
    prefix = read(observed, resample, **reading)
    stride, last = prefix.stride, prefix.weights.shape[1] - 1
    if model is not None:
        fitted = load(model)
        if fitted.n != last:
            raise InputError(f"The model in {model} was fitted to {fitted.n + 1} observed states, and {observed} holds "
                             f"{last + 1}.")
        if fitted.learns() and fitted.spacing != (stride,):
            raise InputError(f"The model in {model} was fitted to states {', '.join(map(str, fitted.spacing))} steps "
                             f"apart, and those of {observed} are {stride} apart: resample them.")
    elif train is not None:
        fitted = kinds[method](observed=last)
        longer = read(train, resample)
        if longer.stride != stride:
            raise InputError(f"The training data were recorded at different distances ({longer.stride} steps) than the "
                             f"observed run ({stride}).")
        if not fitted.coordinatewise and None not in (longer.groups, prefix.groups) and longer.groups != prefix.groups:
            raise InputError(f"{method!r} looks at all weights together, but the training data have other tensors than "
                             "the observed run, or in another order.")
        if not prefix.states:
            longer = longer.without_states()
        fitted.fit(longer, max_weights=max_weights, device=device)
    elif not kinds[method].learns():
        padded = np.concatenate([prefix.weights, prefix.weights[:, -1:]], axis=1)
        fitted = kinds[method](observed=last).fit(Trajectories(padded))  # only the length of the prefix matters
    else:
        raise InputError(f"The forecaster {method!r} learns from whole runs: give them with --train.")
    found = prefix.continued(fitted.forecast(prefix, horizon))
    found.meta["forecast by"] = fitted.name
    if "held_out" in fitted.fitted.notes:
        found.meta["held out"] = fitted.fitted.notes["held_out"]
    if save_model is not None:
        found.meta["model"] = str(fitted.save(save_model))
    return found


def _option(name: str) -> str:
    """An argument as the command line writes it."""
    return "--" + name.replace("_", "-")


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
