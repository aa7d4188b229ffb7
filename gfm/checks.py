"""Checks of single arguments: a number, a whole number, a switch, one of several; Python's or NumPy's values."""

from __future__ import annotations

from collections.abc import Callable, Collection
from numbers import Integral, Real

import numpy as np

from gfm.errors import InputError

__all__ = ["flag", "number", "one_of", "whole"]


def number(name: str, value: object, holds: Callable[[float], bool], words: str) -> float:
    """``value`` as a float if it is a number of which ``holds`` is true; ``words`` say what it must be.

    Raises:
        InputError: it is no number, or ``holds`` is false.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not holds(float(value)):
        raise InputError(f"{name} must be {words}, but it is {value!r}")
    return float(value)


def whole(name: str, value: object, least: int) -> int:
    """``value`` as an int if it is a whole number of at least ``least``.

    Raises:
        InputError: it is no whole number, or a smaller one.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, but it is {value!r}")
    return int(value)


def flag(name: str, value: object) -> bool:
    """``value`` as a bool if it is True or False.

    Raises:
        InputError: it is anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, but it is {value!r}")
    return bool(value)


def one_of(name: str, value: object, known: Collection) -> None:
    """Refuse a value that is none of the known ones.

    Raises:
        InputError: it is another.
    """
    if value not in known:
        raise InputError(f"{name} must be one of {tuple(known)}; got {value!r}.")
