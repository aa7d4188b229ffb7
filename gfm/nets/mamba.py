"""Mamba, a selective state space model, with a sequential scan."""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfm.nets.norms import RMSNorm
from gfm.nets.registry import network
from gfm.nets.seeding import seeded
from gfm.nets.tokens import Embedding

__all__ = ["Mamba", "mamba"]


class Mamba(nn.Module):
    """Mamba blocks (Gu and Dao 2023, algorithm 2) with residuals over embedded tokens.

    It maps tokens ``(n, T)`` int64 to ``(n, T, outputs)``. The defaults are the central-flows paper's: 65,984
    weights. Linear and embedding weights are initially normal with standard deviation 0.02.

    Args:
        vocabulary: number of different tokens.
        outputs: number of outputs per position.
        width: of the embedding.
        depth: number of blocks.
        inner: width inside a block.
        state: size of the state of each inner channel.
        kernel: length of the causal convolution.
        rank: of the step-size projection.
        head_scale: factor on the head's initial weights.
    """

    def __init__(
        self, vocabulary: int = 4, outputs: int = 4, *, width: int = 64, depth: int = 2, inner: int = 128,
        state: int = 16, kernel: int = 4, rank: int = 4, head_scale: float = 0.1,
    ):
        super().__init__()
        self.embed = Embedding(vocabulary, width, std=0.02)
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(depth))
        self.blocks = nn.ModuleList(_Block(width, inner, state, kernel, rank) for _ in range(depth))
        self.norm = RMSNorm(width)
        self.head = _linear(width, outputs, bias=False)
        self.head.weight.data.mul_(head_scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T) to outputs (n, T, outputs)."""
        x = self.embed(tokens)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.head(self.norm(x))


class _Block(nn.Module):
    def __init__(self, width: int, inner: int, state: int, kernel: int, rank: int):
        super().__init__()
        self.sizes = (rank, state, state)
        self.inward = _linear(width, 2 * inner, bias=False)
        # torch's default initialisation of a depthwise convolution, stored as a plain (kernel, inner) matrix
        bound = kernel**-0.5
        self.taps = nn.Parameter(torch.empty(kernel, inner))
        self.taps_bias = nn.Parameter(torch.empty(inner))
        nn.init.uniform_(self.taps, -bound, bound)
        nn.init.uniform_(self.taps_bias, -bound, bound)
        self.selection = _linear(inner, sum(self.sizes), bias=False)
        self.step_size = _linear(rank, inner, bias=True)
        rates = torch.arange(1, state + 1)
        self.log_rates = nn.Parameter(rates.log()[:, None].repeat(1, inner))
        self.skip = nn.Parameter(torch.ones(inner))
        self.outward = _linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.inward(x).chunk(2, -1)
        u = F.silu(_causal_convolution(u, self.taps) + self.taps_bias)
        step, b, c = self.selection(u).split(self.sizes, dim=-1)
        step = F.softplus(self.step_size(step))
        decay = torch.exp(step[:, :, None, :] * -self.log_rates.exp())  # (n, T, state, inner)
        drive = (step * u)[:, :, None, :] * b[..., None]
        # A product and a sum: many tiny matrix products would be slower at every order of derivative.
        y = (_scan(decay, drive) * c[..., None]).sum(2) + u * self.skip
        return self.outward(y * F.silu(gate))


def _scan(decay: Tensor, drive: Tensor) -> Tensor:
    """h_t = decay_t * h_{t-1} + drive_t along dimension 1, from zero, by one operation per position."""
    first, *rest = drive.unbind(1)
    states = [first]
    for a, b in zip(decay.unbind(1)[1:], rest, strict=True):
        states.append(torch.addcmul(b, a, states[-1]))
    return torch.stack(states, dim=1)


def _causal_convolution(u: Tensor, taps: Tensor) -> Tensor:
    """Convolve each channel of ``(n, T, inner)`` with its own taps, the last of which acts on the present position."""
    steps, kernel = u.shape[1], taps.shape[0]
    padded = F.pad(u, (0, 0, kernel - 1, 0))
    parts = (padded[:, i : i + steps] * taps[i] for i in range(kernel))
    return reduce(torch.add, parts)


def _linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


mamba = network(
    "mamba", title="Mamba", takes="tokens",
    tiny={"width": 6, "depth": 1, "inner": 8, "state": 2, "kernel": 3, "rank": 2},
    book={"width": 24, "depth": 1, "inner": 32, "state": 4, "kernel": 4, "rank": 2},
)(seeded(Mamba))
