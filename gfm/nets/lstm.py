"""The long short-term memory network, with its cell written out."""

from math import sqrt

import torch
from torch import Tensor, nn

from gfm.nets.registry import network
from gfm.nets.seeding import seeded
from gfm.nets.tokens import Embedding

__all__ = ["LSTM", "lstm"]


class LSTM(nn.Module):
    """Stacked LSTM layers over embedded tokens, read out at every position.

    It maps tokens ``(n, T)`` int64 to ``(n, T, outputs)``. The layers' weights are initially uniform within
    +-1/sqrt(width). The defaults are the central-flows paper's: 38,020 weights.
    """

    def __init__(self, vocabulary: int = 4, outputs: int = 4, *, width: int = 48, depth: int = 2):
        super().__init__()
        self.embed = Embedding(vocabulary, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T) to outputs (n, T, outputs)."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class _Layer(nn.Module):
    """One layer of cells; gates in the order input, forget, output, candidate."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.inward = nn.Linear(width, 4 * width)
        self.recurrent = nn.Linear(width, 4 * width)
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


lstm = network(
    "lstm", title="LSTM", takes="tokens", tiny={"width": 6, "depth": 1}, book={"width": 16, "depth": 2}
)(seeded(LSTM))
