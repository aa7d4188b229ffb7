"""Derived flows: discrete, midpoint, stable and central processes run in lockstep from one start."""

from gfm.central.result import Run, Series
from gfm.central.run import run

__all__ = ["Run", "Series", "run"]
