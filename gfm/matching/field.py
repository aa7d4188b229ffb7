"""The network of a learned field: a perceptron that starts at zero, and its inputs in the coordinate view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfm.nets.mlp import mlp

__all__ = ["CorrectionField", "numbers_in", "perceptron"]


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, seed: int, dtype: torch.dtype = torch.float32
) -> nn.Sequential:
    """Linear layers with SiLU between them; the last is initially zero, so that an untrained network has no effect."""
    net = mlp((inputs, *hidden, outputs), "silu", dtype=dtype, seed=seed)
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


def numbers_in(network: nn.Module | None) -> int:
    """Number of parameters of a network; 0 for None."""
    return 0 if network is None else sum(p.numel() for p in network.parameters())


class CorrectionField(nn.Module):
    """u(y, t | c): the correction of the affine part as a function of state, time and context.

    Args:
        features: number of context features.
        hidden: widths of the hidden layers.
        state: whether y is an input; without it the correction is a drive that the noise in y does not affect.
        time: whether t is an input, with sines and cosines of two frequencies.
        seed: of the initial weights.
        dtype: of the weights.
    """

    def __init__(
        self, features: int, hidden: Sequence[int] = (64, 64), state: bool = True, time: bool = True,
        seed: int = 0, dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.state, self.time, self.hidden = state, time, tuple(hidden)
        self.net = perceptron(features + 5 * int(time) + int(state), hidden, 1, seed, dtype)

    def forward(self, y: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Velocities (batch,), per horizon.

        Args:
            y: (batch,) state minus the affine flow's state.
            t: (batch,) elapsed share of the horizon, in [0, 1].
            c: (batch, features) standardised context.
        """
        inputs = [c]
        if self.time:
            waves = [f(math.pi * k * t) for k in (1, 2) for f in (torch.sin, torch.cos)]
            inputs.insert(0, torch.stack([t, *waves], dim=-1))
        if self.state:
            inputs.append(y[:, None])
        return self.net(torch.cat(inputs, dim=-1))[:, 0]
