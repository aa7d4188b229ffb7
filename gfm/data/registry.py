"""Data sets by name."""

import inspect
from collections.abc import Callable
from typing import Any

from gfm.checks import known
from gfm.data.cifar10 import cifar10
from gfm.data.dataset import Dataset
from gfm.data.digits import digits
from gfm.data.mnist import mnist
from gfm.data.sorting import sorting
from gfm.data.toys import moons, waves

__all__ = ["available", "load"]

LOADERS: dict[str, Callable[..., Dataset]] = {
    loader.__name__: loader for loader in (digits, cifar10, mnist, sorting, moons, waves)
}


def available() -> dict[str, Callable[..., Dataset]]:
    """The loaders of the data sets by name."""
    return dict(LOADERS)


def load(name: str, **options: Any) -> Dataset:
    """The named data set; options are passed to its loader, whose errors are described there.

    Raises:
        UnknownNameError: The data set or an option is unknown.

    Example:
        >>> load("moons", n=40).inputs.shape
        torch.Size([40, 2])
    """
    known("data set", name, LOADERS)
    for option in options:
        known(f"{name} option", option, inspect.signature(LOADERS[name]).parameters)
    return LOADERS[name](**options)
