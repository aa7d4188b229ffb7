"""Checks of single arguments, of Python or NumPy: a number, a whole number, a flag, a path, one of several."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gfm.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import torch

__all__ = [
    "MOST_SEED", "arguments", "flag", "floating", "function", "known", "number", "one_of", "place", "seed", "several",
    "whole",
]

MOST_SEED = 2**64 - 1
"""The largest seed that torch's generators take."""


def number(name: str, value: object, holds: Callable[[float], bool], words: str) -> float:
    """``value`` as a float if it is a number for which ``holds`` is true; ``words`` describe the condition.

    A whole number too large for a float counts as infinite.

    Raises:
        InputError: The value is not a number, or ``holds`` is false.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not holds(_float(value)):
        raise InputError(f"{name} must be {words}, but it is {value!r}")
    return _float(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(name: str, value: object, least: int, most: float = math.inf) -> int:
    """``value`` as an int if it is a whole number of at least ``least`` and at most ``most``.

    Raises:
        InputError: The value is not a whole number, or out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or not least <= int(value) <= most:
        to = f" and at most {most}" if most < math.inf else ""
        raise InputError(f"{name} must be a whole number of at least {least}{to}, but it is {value!r}")
    return int(value)


def flag(name: str, value: object) -> bool:
    """``value`` as a bool if it is True or False.

    Raises:
        InputError: The value is anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, but it is {value!r}")
    return bool(value)


def seed(value: object) -> int:
    """``value`` as an int if it is a seed: a whole number from 0 to ``MOST_SEED``.

    Raises:
        InputError: The value is anything else.
    """
    return whole("seed", value, 0, MOST_SEED)


def function(name: str, value: object) -> None:
    """Check that a value can be called.

    Raises:
        InputError: It cannot.
    """
    if not callable(value):
        raise InputError(f"{name} must be a function, but it is {value!r}")


def several(name: str, value: object) -> tuple[int, ...]:
    """``value`` as a tuple of ints if it is a sequence of whole numbers of at least 1.

    Raises:
        InputError: The value is anything else.
    """
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)):
        raise InputError(f"{name} must be a sequence of whole numbers, but it is {value!r}")
    return tuple(whole(f"each of {name}", entry, 1) for entry in value)


def floating(name: str, value: object) -> torch.dtype:
    """``value`` if it is a floating dtype of torch.

    Raises:
        InputError: The value is anything else.
    """
    import torch  # slow to import, and most commands need none

    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise InputError(f"{name} must be a floating dtype such as torch.float64, but it is {value!r}")
    return value


def arguments(signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Check the sizes and switches among arguments by their annotations, which are texts: int, bool, float, sequences.

    An int must be at least 1, a float finite.

    Raises:
        InputError: A value is of another kind, or out of range.
    """
    for name, value in given.items():
        match str(signature.parameters[name].annotation):
            case "int":
                whole(name, value, 1)
            case "bool":
                flag(name, value)
            case "float":
                number(name, value, math.isfinite, "a finite number")
            case "Sequence[int]" | "tuple[int, int, int]" | "tuple[int, ...]":
                several(name, value)


def place(name: str, value: object) -> Path:
    """``value`` as a path if it is one, as a string or ``Path``, and not empty.

    Raises:
        InputError: The value is anything else.
    """
    if not isinstance(value, (str, PathLike)) or str(value) == "" or "\0" in str(value):
        raise InputError(f"{name} must be the path of a file or folder, but it is {value!r}")
    return Path(value)


def one_of(name: str, value: object, known: Collection) -> None:
    """Check that a value is one of the known ones.

    Raises:
        InputError: The value is not known.
    """
    if value not in known:
        raise InputError(f"{name} must be one of {tuple(known)}; got {value!r}.")


def known(kind: str, name: object, names: Collection[str]) -> None:
    """Check that the name of a network, a data set, ... is one of the known ones.

    Raises:
        UnknownNameError: It is not.
    """
    if name not in tuple(names):  # a tuple: the name may be unhashable
        raise UnknownNameError(f"Unknown {kind} {name!r}: choose one of {', '.join(names)}.")
