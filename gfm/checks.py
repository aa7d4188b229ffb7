"""Checks of single arguments, of Python or NumPy: a number, a whole number, a flag, a path, one of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gfm.errors import InputError, UnknownNameError

__all__ = ["MOST_SEED", "flag", "known", "number", "one_of", "place", "whole"]

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
