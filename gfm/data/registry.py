"""Data sets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gfm.data.cifar10 import cifar10
from gfm.data.dataset import Dataset
from gfm.data.digits import digits
from gfm.data.mnist import mnist
from gfm.data.sorting import sorting
from gfm.data.toys import moons, waves
from gfm.errors import UnknownNameError

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
    if name not in LOADERS:
        raise UnknownNameError(f"Unknown data set {name!r}: choose one of {', '.join(LOADERS)}.")
    known = inspect.signature(LOADERS[name]).parameters
    for option in options:
        if option not in known:
            raise UnknownNameError(f"The data set {name!r} has no option {option!r}: choose among {', '.join(known)}.")
    return LOADERS[name](**options)
