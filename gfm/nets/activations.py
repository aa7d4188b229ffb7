"""Activations by name, all differentiable to any order in reverse and forward mode."""

import torch
from torch import Tensor, nn

from gfm.checks import known

__all__ = ["ACTIVATIONS", "activation_layer"]


class Sine(nn.Module):
    """The sine, entry by entry."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "sine": Sine,
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "identity": nn.Identity,
}


def activation_layer(name: str) -> nn.Module:
    """A new layer for one of ``ACTIVATIONS``.

    Raises:
        UnknownNameError: The activation is unknown.
    """
    known("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()
