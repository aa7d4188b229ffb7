"""The fully connected network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.registry import register
from gfm.nets.seeding import seeded

__all__ = ["mlp"]


def mlp(
    dims: Sequence[int],
    activation: str = "gelu",
    *,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> nn.Sequential:
    """Linear layers of widths ``dims`` with an activation between them; none after the last.

    Inputs ``(n, ...)`` are flattened to ``(n, dims[0])``; outputs are ``(n, dims[-1])``. Weights
    follow torch's default (uniform, +-1/sqrt(inputs)). The central-flows paper's network on
    CIFAR-10 is ``mlp((3072, 256, 256, 4))``: 853,508 weights.

    Raises:
        InputError: fewer than two widths, or one below 1.
        UnknownNameError: unknown activation.
    """
    if len(dims) < 2 or any(int(d) != d or d < 1 for d in dims):
        raise InputError(f"dims must be two or more whole widths of at least 1, not {tuple(dims)}.")
    layers: list[nn.Module] = [nn.Flatten()]
    with seeded(seed):
        for i, (a, b) in enumerate(pairwise(dims)):
            if i > 0:
                layers.append(activation_layer(activation))
            layers.append(nn.Linear(int(a), int(b), bias=bias, device="cpu", dtype=torch.float32))
    return nn.Sequential(*layers).to(dtype)


@register("mlp", "MLP", "anything", sizes={"tiny": {"hidden": (8, 8)}, "book": {"hidden": (32, 32)}})
def _on_inputs(
    input_shape: tuple[int, ...],
    outputs: int,
    activation: str = "gelu",
    *,
    hidden: tuple[int, ...] = (256, 256),
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> nn.Module:
    return mlp((prod(input_shape), *hidden, outputs), activation, bias=bias, dtype=dtype, seed=seed)
