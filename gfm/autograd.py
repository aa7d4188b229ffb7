"""Gradients where the caller has switched them off."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

__all__ = ["ordinary", "with_gradients"]

P = ParamSpec("P")
R = TypeVar("R")


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function that needs gradients, so that it also works in ``torch.no_grad()`` and inference mode."""

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            return function(*args, **options)
        with torch.inference_mode(False), torch.enable_grad():
            return function(*args, **options)

    return call


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor (any shape), or a copy of one made in inference mode, which autograd refuses; call it outside."""
    return tensor.clone() if tensor.is_inference() else tensor
