"""Derived flows: the optimizer, its midpoints, and its stable and central flows, run in lockstep from one start."""

from gfm.central.result import Run, Series
from gfm.central.run import run
from gfm.central.settings import Settings

__all__ = ["Run", "Series", "Settings", "run"]
