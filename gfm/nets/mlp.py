"""The fully connected network."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torch import nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.registry import network
from gfm.nets.seeding import seeded

__all__ = ["mlp"]


@seeded
def mlp(dims: Sequence[int], activation: str = "gelu", *, bias: bool = True) -> nn.Sequential:
    """Linear layers of widths ``dims`` with an activation between them but not after the last.

    Inputs ``(n, ...)`` are flattened to ``(n, dims[0])``; outputs are ``(n, dims[-1])``. Weights have torch's default
    initialisation (uniform within +-1/sqrt(inputs)). The central-flows paper's network on CIFAR-10 is
    ``mlp((3072, 256, 256, 4))``: 853,508 weights.

    Args:
        dims: widths, from inputs to outputs.
        activation: a name in ``gfm.nets.ACTIVATIONS``.
        bias: whether the layers have biases.

    Raises:
        InputError: There are fewer than two widths, or one is below 1.
        UnknownNameError: The activation is unknown.
    """
    if len(dims) < 2:
        raise InputError(f"dims must be two or more whole widths of at least 1, not {tuple(dims)}.")
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(map(int, dims)):
        layers += [nn.Linear(inputs, outputs, bias=bias), activation_layer(activation)]
    return nn.Sequential(*layers[:-1])


@network("mlp", title="MLP", takes="anything", tiny={"hidden": (8, 8)}, book={"hidden": (32, 32)})
def _for_shape(
    input_shape: tuple[int, ...], outputs: int, activation: str = "gelu", *, hidden: Sequence[int] = (256, 256),
    bias: bool = True, **start: Any,
) -> nn.Sequential:
    return mlp((prod(input_shape), *hidden, outputs), activation, bias=bias, **start)
