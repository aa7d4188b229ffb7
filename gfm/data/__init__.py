"""Data sets: small ones made or embedded, larger ones from a folder or a checked download."""

from gfm.data.dataset import IGNORE, Dataset, one_hot
from gfm.data.digits import digits

__all__ = ["IGNORE", "Dataset", "digits", "one_hot"]
