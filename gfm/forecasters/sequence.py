"""Sequence models: an LSTM and a Transformer that read the prefix and output the whole future at once."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["LSTM", "Transformer"]


class _Reader(nn.Module):
    """Common part: each token is a value's difference from the last one, together with the last value.

    Differences are scaled by their typical size in the training prefixes, and the head's output is added to the
    last value. Without this both models do worse.
    """

    unit: Tensor

    def __init__(self, width: int, horizon: int) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        self.entry = nn.Linear(2, width)
        self.head = nn.Linear(width, horizon)

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]
        tokens = torch.stack([(x - last) / self.unit, last.expand_as(x)], dim=-1)
        return last + self.unit * self.head(self.read(self.entry(tokens)))

    @abstractmethod
    def read(self, tokens: Tensor) -> Tensor:
        """(series, length, width) -> (series, width)."""


class _LSTMReader(_Reader):
    def __init__(self, width: int, horizon: int, layers: int) -> None:
        super().__init__(width, horizon)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)

    def read(self, tokens: Tensor) -> Tensor:
        return self.lstm(tokens)[0][:, -1]


class _Block(nn.Module):
    """A pre-norm encoder layer: attention and a two-layer network, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, last: bool) -> Tensor:
        """All tokens, or with ``last`` only the last one, which is all that the head reads."""
        keys = self.before(tokens)
        kept = slice(-1 if last else 0, None)
        mixed = tokens[:, kept] + self.attention(keys[:, kept], keys, keys, need_weights=False)[0]
        return mixed + self.inner(self.between(mixed))


class _TransformerReader(_Reader):
    code: Tensor

    def __init__(self, width: int, horizon: int, layers: int, heads: int, length: int) -> None:
        super().__init__(width, horizon)
        position = torch.arange(length)[:, None]
        rate = torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
        code = torch.zeros(length, width)
        code[:, 0::2], code[:, 1::2] = torch.sin(position * rate), torch.cos(position * rate)
        self.register_buffer("code", code)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))

    def read(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.code
        for number, block in enumerate(self.blocks, 1):
            tokens = block(tokens, last=number == len(self.blocks))
        return tokens[:, -1]


@register
class LSTM(DirectForecaster):
    """An LSTM layer of 64 over the scalar series; a linear head from its last state to all steps."""

    name = "lstm"
    title = "LSTM"
    source = "Hochreiter and Schmidhuber 1997; settings ours"
    by_series = True
    defaults = Training(rate=5e-3, batch=64, epochs=200, patience=40, schedule="one-cycle")

    def _module(self) -> nn.Module:
        return _LSTMReader(64, self.horizon, layers=1)


@register
class Transformer(DirectForecaster):
    """Two encoder layers of width 32 with four heads; a linear head from the last token to all steps.

    On validation data width 32 did as well as 64 on the least-squares sets and better on the small networks.
    """

    name = "transformer"
    title = "Transformer"
    source = "Vaswani et al. 2017; settings ours"
    by_series = True
    defaults = Training(rate=3e-3, batch=64, epochs=200, patience=40, schedule="one-cycle")

    def _module(self) -> nn.Module:
        return _TransformerReader(32, self.horizon, layers=2, heads=4, length=self.n + 1)
