"""The public name of :mod:`gfm.problem.losses`."""

from gfm.problem.losses import *  # noqa: F403
from gfm.problem.losses import __all__ as __all__
