"""Derived flows: the optimizer, its midpoints, and its stable and central flows, run in lockstep from one start.

Beside them, the optimizer on mini-batches.
"""

from gfm.central.minibatch import Minibatch
from gfm.central.result import Run, Series
from gfm.central.run import run
from gfm.central.settings import Settings

__all__ = ["Minibatch", "Run", "Series", "Settings", "run"]
