"""Checks of single values: a number, a whole number, a switch; Python's or NumPy's, returned as Python's."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np

from gfm.errors import InputError

__all__ = ["flag", "number", "whole"]


def number(name: str, value: object, holds: Callable[[float], bool], words: str) -> float:
    """``value`` as a float if it is a number and ``holds`` of it; ``words`` say what holds means.

    Raises:
        InputError: otherwise.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not holds(float(value)):
        raise InputError(f"{name} must be {words}, but it is {value!r}")
    return float(value)


def whole(name: str, value: object, least: int) -> int:
    """``value`` as an int if it is a whole number of at least ``least``.

    Raises:
        InputError: otherwise.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, but it is {value!r}")
    return int(value)


def flag(name: str, value: object) -> bool:
    """``value`` as a bool if it is True or False.

    Raises:
        InputError: otherwise.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, but it is {value!r}")
    return bool(value)
