"""Weights drawn from a given seed, independent of the caller's random state and defaults."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import nn

from gfm.checks import annotated, enough_memory, floating
from gfm.randomness import seeding

__all__ = ["seeded"]

Network = TypeVar("Network", bound=nn.Module)


def seeded(build: Callable[..., Network]) -> Callable[..., Network]:
    """``build`` with two more keywords, ``dtype`` (float32) and ``seed`` (0) of the initial weights.

    The weights are drawn in float32 on the CPU and then converted, so that a seed gives the same weights in every
    dtype. The caller's random state and default dtype are not changed. Arguments are checked against their annotations.
    """
    own = inspect.signature(build)

    @wraps(build)
    def built(*arguments: Any, dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any) -> Network:
        annotated(own, own.bind(*arguments, **options).arguments)
        floating("dtype", dtype)
        default = torch.get_default_dtype()
        with seeding(seed), torch.device("cpu"), enough_memory(f"The network {build.__name__}"):
            torch.set_default_dtype(torch.float32)
            try:
                return build(*arguments, **options).to(dtype)
            finally:
                torch.set_default_dtype(default)

    more = inspect.signature(built, follow_wrapped=False).parameters
    built.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), more["dtype"], more["seed"]]
    )
    return built
