"""The long short-term memory network, its cell written out."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from gfm.nets.registry import register
from gfm.nets.seeding import seeded
from gfm.nets.tokens import Embedding

__all__ = ["LSTM", "lstm"]


@register(
    "lstm", "LSTM", "tokens", activation=False,
    sizes={"tiny": {"width": 6, "depth": 1}, "book": {"width": 16, "depth": 2}},
)
def lstm(
    vocabulary: int = 4,
    outputs: int = 4,
    *,
    width: int = 48,
    depth: int = 2,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> LSTM:
    """Stacked LSTM layers over embedded tokens, read out at every position.

    Tokens ``(n, T)`` int64 to ``(n, T, outputs)``. Cells start uniform within +-1/sqrt(width). The
    defaults are the central-flows paper's: 38,020 weights.
    """
    with seeded(seed):
        return LSTM(vocabulary, outputs, width, depth).to(dtype)


class LSTM(nn.Module):
    """Built by ``lstm``; tokens ``(n, T)`` to ``(n, T, outputs)``."""

    def __init__(self, vocabulary: int, outputs: int, width: int, depth: int):
        super().__init__()
        self.embed = Embedding(vocabulary, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.head = nn.Linear(width, outputs, dtype=torch.float32)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token indices (n, steps) to logits (n, steps, tokens)."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class _Layer(nn.Module):
    """One layer of cells; gates in the order input, forget, output, candidate."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.inward = nn.Linear(width, 4 * width, dtype=torch.float32)
        self.recurrent = nn.Linear(width, 4 * width, dtype=torch.float32)
        bound = 1 / sqrt(width)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        sizes = (3 * self.width, self.width)
        driven = (self.inward(x) + self.recurrent.bias).unbind(1)  # all positions in one product
        h = cell = None
        states = []
        for drive in driven:
            if h is not None:
                drive = torch.addmm(drive, h, self.recurrent.weight.t())
            gates, candidate = drive.split(sizes, dim=-1)
            i, f, o = gates.sigmoid().chunk(3, -1)
            cell = i * candidate.tanh() if cell is None else f * cell + i * candidate.tanh()
            h = o * cell.tanh()
            states.append(h)
        return torch.stack(states, dim=1)
