"""The neural parts: one network shared by all weights, one that sees all weights together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["CorrectionField", "VectorField"]


class CorrectionField(nn.Module):
    """u(y, t | c): what the affine part leaves, as a function of state, time and context.

    y: (batch,) distance of the state from the affine flow's own state. t: (batch,) share of the
    horizon passed, in [0, 1]. c: (batch, features) standardised context. Returns (batch,) a velocity
    per horizon. The last layer starts at zero, so that an untrained correction changes nothing.

    state: whether y enters; without it the correction is a drive that the noise of y cannot reach.
    time: whether t enters, with two waves over the horizon.
    """

    def __init__(
        self, features: int, hidden: Sequence[int] = (64, 64), state: bool = True, time: bool = True
    ) -> None:
        super().__init__()
        self.state, self.time = state, time
        sizes = [features + 5 * int(time) + int(state), *hidden]
        layers: list[nn.Module] = []
        for inner, outer in pairwise(sizes):
            layers += [nn.Linear(inner, outer), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, y: Tensor, t: Tensor, c: Tensor) -> Tensor:
        """Velocities (batch,) at states (batch,), times (batch,) in [0, 1] and contexts (batch, features)."""
        inputs = [c]
        if self.time:
            waves = [f(math.pi * k * t) for k in (1, 2) for f in (torch.sin, torch.cos)]
            inputs.insert(0, torch.stack([t, *waves], dim=-1))
        if self.state:
            inputs.append(y[:, None])
        return self.head(self.body(torch.cat(inputs, dim=-1)))[:, 0]


class VectorField(nn.Module):
    """u(w): (batch, p) standardised weights to (batch, p) velocities; starts at zero."""

    def __init__(self, parameters: int, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        sizes = [parameters, *hidden]
        layers: list[nn.Module] = []
        for inner, outer in pairwise(sizes):
            layers += [nn.Linear(inner, outer), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], parameters)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, w: Tensor) -> Tensor:
        """Velocities (batch, p) at standardised weights (batch, p)."""
        return self.head(self.body(w))
