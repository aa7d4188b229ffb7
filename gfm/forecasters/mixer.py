"""A mixer with reversible instance normalisation: what the earlier paper's code calls DLinear."""

import torch
from torch import Tensor, nn

from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["Mixer"]


def _mlp(size: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, size))


class _RevInMixer(nn.Module):
    """RevIN over time, x + MLP over time, x + MLP over channels, linear to the future, RevIN undone."""

    def __init__(self, length: int, channels: int, horizon: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.over_time = _mlp(length, width)
        self.over_channels = _mlp(channels, width)
        self.out = nn.Linear(length, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """(runs, channels, length) -> (runs, channels, horizon)."""
        mean = x.mean(dim=-1, keepdim=True)
        size = (x.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        scale, shift = self.scale[:, None], self.shift[:, None]
        z = (x - mean) / size * scale + shift
        z = z + self.over_time(z)
        z = z + self.over_channels(z.transpose(1, 2)).transpose(1, 2)
        return (self.out(z) - shift) / (scale + 1e-10) * size + mean


@register
class Mixer(DirectForecaster):
    """RevIN-MLP mixer of width 512 whose channels are the weights of a run; squared loss."""

    name = "mixer"
    title = "RevIN mixer"
    source = "code of arXiv 2505.02714; RevIN: Kim et al. 2022"
    coordinatewise = False
    per_series = False
    defaults = Training(rate=3e-3, batch=32, epochs=2000, patience=40)

    def _module(self) -> nn.Module:
        return _RevInMixer(self.n + 1, self.parameters, self.horizon, 512)
