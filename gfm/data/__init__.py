"""Data sets: small ones made or embedded, larger ones from a folder or a checked download."""

from gfm.data.cifar10 import cifar10
from gfm.data.dataset import IGNORE, Dataset, one_hot
from gfm.data.digits import digits
from gfm.data.mnist import mnist
from gfm.data.registry import available, load
from gfm.data.sorting import sorting
from gfm.data.toys import moons, waves

__all__ = [
    "IGNORE", "Dataset", "available", "cifar10", "digits", "load", "mnist", "moons", "one_hot", "sorting", "waves",
]
