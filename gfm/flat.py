"""The public name of :mod:`gfm.problem.flat`."""

from gfm.problem.flat import *  # noqa: F403
from gfm.problem.flat import __all__ as __all__
