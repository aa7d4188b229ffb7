"""Fitted forecasters on disk: NPZ for numbers, JSON for the rest, without pickle, written atomically.

What is saved are the attributes of the forecaster and of its parts: plain values, arrays, tensors, the states of
modules, and the options and flows of this package. Nothing in a file is executed: it names forecasters and classes of
this package that are there already, and :meth:`gfm.forecasting.base.Forecaster.rebuild` makes the modules.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gfm
from gfm.checks import place
from gfm.errors import InputError, UnreadableFileError, said
from gfm.files import check_archive, understood
from gfm.forecasting.base import Forecaster, registered
from gfm.trajectories.archive import header_of, write_archive

__all__ = ["load", "save"]

SCHEMA = "gfm.forecaster/1"


def save(model: Forecaster, path: str | Path) -> Path:
    """Write a fitted forecaster; see :meth:`Forecaster.save`.

    Raises:
        GfmError: The forecaster has not been fitted.
        InputError: An attribute cannot be saved, or ``path`` is a folder or cannot be written to.
    """
    _ = model.fitted
    arrays: dict[str, np.ndarray] = {}
    try:
        state = _packed(model, arrays)
        _unpacked(state, arrays)  # what could not be read back is not written
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"The forecaster {model.name!r} cannot be saved: {said(error)}.") from error
    header = {
        "schema": SCHEMA,
        "version": gfm.__version__,
        "forecaster": model.name,
        "observed": model.n,
        "horizon": model.horizon,
        "weights": model.parameters,
        "state": state,
    }
    return write_archive(path, json.dumps(header), arrays)


def load(path: str | Path) -> Forecaster:
    """Read what :func:`save` wrote; see :meth:`Forecaster.load`.

    Raises:
        UnreadableFileError: The file is missing, broken, of another format, or holds a forecaster that is unknown here
            or not fitted.
        InputError: ``path`` is no path.
    """
    path = place("path", path)
    if not path.is_file():
        raise UnreadableFileError(f"There is no file of a fitted forecaster at {path}.")
    with understood(lambda why: f"{path} is not a file of a fitted forecaster: {why}."):
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            header = header_of(file)
            schema, name = header.get("schema"), header.get("forecaster")
            if schema != SCHEMA:
                raise ValueError(f"its format is {schema!r}, and this version of the package reads {SCHEMA!r}")
            if name not in registered:
                raise ValueError(f"it holds {name!r}, which is not registered here: import the module that defines it")
            arrays = {key: file[key] for key in file.files}
        model = _unpacked(header["state"], arrays)
        if not isinstance(model, Forecaster) or model.name != name or model.report is None:
            raise ValueError("what it holds is not fitted")
    return model


# -- objects as JSON and arrays ----------------------------------------------------------------------
def _packed(value: Any, arrays: dict[str, np.ndarray], where: str = "") -> Any:
    """``value`` as JSON, with its arrays in ``arrays``; ``where`` is the attribute that holds it."""
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        kind = "array" if isinstance(value, np.ndarray) else "tensor" if isinstance(value, Tensor) else "number"
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"its {where} is an array of {array.dtype}, not of numbers")
        name = f"array_{len(arrays)}"
        arrays[name] = array
        return {kind: name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (list, tuple)):
        items = [_packed(item, arrays, where) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict):
        return {"dict": [[_packed(part, arrays, where) for part in item] for item in value.items()]}
    if isinstance(value, nn.Module):
        return {"module": _packed(dict(value.state_dict()), arrays, where), "training": value.training}
    cls = type(value)
    if isinstance(value, Forecaster):
        if registered.get(value.name) is not cls:
            raise ValueError(f"{cls.__name__} is not registered under its name (@gfm.forecasters.register)")
        kind, what = "forecaster", value.name
    elif cls.__module__.startswith("gfm."):
        kind, what = "part", f"{cls.__module__}:{cls.__qualname__}"
    else:
        raise ValueError(f"its {where} is of type {cls.__name__}")
    inside = f"{where}." if where else ""
    return {kind: what, "state": {name: _packed(part, arrays, inside + name) for name, part in vars(value).items()}}


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of :func:`_packed`."""
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()), ("empty part", ""))
    if kind == "array":
        return arrays[content]
    if kind == "number":
        return arrays[content][()]
    if kind == "tensor":
        return torch.from_numpy(arrays[content].copy(order="K"))
    if kind == "dtype":
        return {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float64)}[content]
    if kind == "tuple":
        return tuple(_unpacked(content, arrays))
    if kind == "dict":
        return {key: item for key, item in _unpacked(content, arrays)}
    cls = registered[content] if kind == "forecaster" else _part(kind, content)
    modules: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, part in value["state"].items():
        (modules if isinstance(part, dict) and "module" in part else rest)[name] = _unpacked_module(part, arrays)
    if is_dataclass(cls) and not modules:
        return cls(**rest)  # checks its values
    return _filled(object.__new__(cls), rest, modules)


def _unpacked_module(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A module's state and whether it is in training mode; anything else as it is."""
    if isinstance(value, dict) and "module" in value:
        return _unpacked(value["module"], arrays), value["training"]
    return _unpacked(value, arrays)


def _filled(part: Any, rest: dict[str, Any], modules: dict[str, tuple[dict[str, Tensor], bool]]) -> Any:
    """The attributes set, the modules made anew and their states read into them."""
    vars(part).update(rest)
    if modules:
        part.rebuild()
        vars(part).update(rest)  # rebuilding may set them as for a new fit
    for name, (state, training) in modules.items():
        module = vars(part).get(name)
        if not isinstance(module, nn.Module):
            raise ValueError(f"rebuild() of {type(part).__name__} does not make its module {name!r}")
        module.load_state_dict(state)
        module.train(training)
    return part


def _part(kind: str, path: str) -> type:
    """A class of this package by its module and name, if it is in use already."""
    module, _, name = path.partition(":")
    cls = getattr(sys.modules.get(module), name, None) if kind == "part" and module.startswith("gfm.") else None
    if not isinstance(cls, type):
        raise ValueError(f"this version of the package has no {kind} {path!r}")
    return cls
