"""The public name of :mod:`gfm.problem.flat`."""

from gfm.problem.flat import Flat

__all__ = ["Flat"]
