"""Sequence models: an LSTM and a Transformer that read the prefix and output the whole future at once.

Both read patches of three states. On validation data these were at least as good as a token for each state, in less
than half the time.
"""

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from gfm.checks import flag
from gfm.forecasters.direct import DirectForecaster, root_mean_square
from gfm.forecasting.base import register
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching.optimizer_state import recorded_kind, refuse_other_kind, state_channels
from gfm.trajectories import Trajectories

__all__ = ["LSTM", "Transformer"]

PATCH = 3
TRAINING = Training(rate=1e-2, batch=32, epochs=2000, patience=30, schedule="plateau")
"""Training on hundreds of series, as in the least-squares sets; the rate was chosen by validation."""
CLIP = 8.0
"""Standardised channels are clipped here; far outside the fitted range a network's output means nothing."""


def _patches(states: int) -> int:
    return math.ceil(states / PATCH)


class _Reader(nn.Module):
    """Common part: a token for every ``PATCH`` states, the last patch ending with the last state.

    A token contains the values' differences from the last value, their channels, and the last value itself. Differences
    are divided by their typical size in the training prefixes; channels are standardised, state by state. The head's
    output, in units of the training runs' typical distance at each step, is added to the last value.

    Attributes:
        unit: () typical difference of an observed value from the last one.
        reach: (horizon,) typical distance from the last observed value at each later step.
        center, spread: (length, channels) mean and standard deviation of the channels.
    """

    unit: Tensor
    reach: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, width: int, length: int, horizon: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("reach", torch.ones(horizon))
        self.register_buffer("center", torch.zeros(length, channels))
        self.register_buffer("spread", torch.ones(length, channels))
        self.entry = nn.Linear(PATCH * (1 + channels) + 1, width)
        self.head = nn.Linear(width, horizon)

    def measure(self, observed: Tensor, later: Tensor) -> None:
        """Set the units by (series, length, 1 + channels) observed and (series, horizon) later values."""
        values, channels = observed[..., 0], observed[..., 1:]
        last = values[:, -1:]
        self.unit.copy_(root_mean_square(values - last))
        self.reach.copy_(root_mean_square(later - last, 0))
        self.center.copy_(channels.mean(0))
        self.spread.copy_(root_mean_square(channels - self.center, 0))

    def forward(self, x: Tensor) -> Tensor:
        values = x[..., 0]
        last = values[:, -1:]
        standard = ((x[..., 1:] - self.center) / self.spread).clamp(-CLIP, CLIP)
        states = torch.cat([((values - last) / self.unit)[..., None], standard], dim=-1)
        missing = PATCH * _patches(states.shape[1]) - states.shape[1]  # the first state is repeated
        states = torch.cat([states[:, :1].expand(-1, missing, -1), states], dim=1)
        patches = states.unflatten(1, (-1, PATCH)).flatten(2)
        tokens = torch.cat([patches, last[..., None].expand(-1, patches.shape[1], -1)], dim=-1)
        return last + self.reach * self.head(self.read(self.entry(tokens)))

    @abstractmethod
    def read(self, tokens: Tensor) -> Tensor:
        """(series, length, width) -> (series, width)."""


class _LSTMReader(_Reader):
    def __init__(self, width: int, layers: int, *sizes: int) -> None:
        super().__init__(width, *sizes)
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
        """All tokens, or with ``last`` only the last one, since the head reads no other."""
        keys = self.before(tokens)
        kept = slice(-1 if last else 0, None)
        mixed = tokens[:, kept] + self.attention(keys[:, kept], keys, keys, need_weights=False)[0]
        return mixed + self.inner(self.between(mixed))


class _TransformerReader(_Reader):
    code: Tensor

    def __init__(self, width: int, layers: int, heads: int, length: int, *sizes: int) -> None:
        super().__init__(width, length, *sizes)
        length = _patches(length)
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


class _Sequence(DirectForecaster):
    """A sequence model of the states of one weight.

    Args:
        observed, training: see :class:`DirectForecaster`.
        optimizer_state: whether the model also reads features from the optimizer's state at each recorded step
            (:func:`gfm.matching.optimizer_state.state_channels`), the same that an optimizer-aware flow's field sees.

    Raises:
        InputError: ``optimizer_state`` is not True or False.
    """

    by_series = True

    def __init__(
        self, observed: int | None = None, training: Training | None = None, optimizer_state: bool = False
    ) -> None:
        super().__init__(observed, training)
        self.optimizer_state = flag("optimizer_state", optimizer_state)

    def _observed(self, prefix: Trajectories) -> Tensor:
        """(runs, parameters, n+1, 1 + channels), the weights first."""
        values = super()._observed(prefix)[..., None]
        if not self.optimizer_state:
            return values
        channels = torch.from_numpy(state_channels(prefix)).to(torch.float32)
        return torch.cat([values, channels.view(*values.shape[:3], -1)], dim=-1)

    def _measure(self, observed: Tensor, later: Tensor) -> None:
        assert isinstance(self.module, _Reader)
        self.module.measure(observed.flatten(0, 1), later.flatten(0, 1))

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.kind = recorded_kind(train)
        self.channels = self._observed(train[:1].prefix(self.n)).shape[-1] - 1
        super()._fit(train, validation, report)

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        if self.optimizer_state:
            refuse_other_kind(self.kind, prefix, f"The {self.title}")
        return super()._forecast(prefix, horizon)


@register
class LSTM(_Sequence):
    """An LSTM layer of 64 over the scalar series; a linear head from its last state to all steps.

    With ``optimizer_state=True`` it also reads features from the optimizer's state at each recorded step.
    """

    name = "lstm"
    title = "LSTM"
    source = "Hochreiter and Schmidhuber 1997; settings ours"
    defaults = TRAINING

    def _module(self) -> nn.Module:
        return _LSTMReader(64, 1, self.n + 1, self.horizon, self.channels)


@register
class Transformer(_Sequence):
    """Two encoder layers of width 32 with four heads; a linear head from the last token to all steps.

    With ``optimizer_state=True`` it also reads features from the optimizer's state at each recorded step.
    On validation data width 32 did as well as 64 on the least-squares sets and better on the small networks.
    """

    name = "transformer"
    title = "Transformer"
    source = "Vaswani et al. 2017; settings ours"
    defaults = TRAINING

    def _module(self) -> nn.Module:
        return _TransformerReader(32, 2, 4, self.n + 1, self.horizon, self.channels)
