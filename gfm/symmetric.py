"""The public name of :mod:`gfm.linalg.symmetric`."""

from gfm.linalg.symmetric import *  # noqa: F403
from gfm.linalg.symmetric import __all__ as __all__
