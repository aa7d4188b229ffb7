"""Linear forecasters trained by gradient: LFS, DLinear and NLinear."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["LFS", "DLinear", "NLinear"]


class _Chosen(nn.Module):
    """A linear layer from some of the observed states."""

    def __init__(self, columns: list[int], horizon: int) -> None:
        super().__init__()
        self.columns = columns
        self.linear = nn.Linear(len(columns), horizon)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, self.columns])


class _Decomposed(nn.Module):
    """Trend (moving average, ends repeated) and rest, a linear layer each."""

    def __init__(self, length: int, horizon: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.trend, self.rest = nn.Linear(length, horizon), nn.Linear(length, horizon)

    def forward(self, x: Tensor) -> Tensor:
        side = (self.kernel - 1) // 2
        padded = F.pad(x[:, None], (side, self.kernel - 1 - side), mode="replicate")
        trend = F.avg_pool1d(padded, self.kernel, stride=1)[:, 0]
        return self.trend(trend) + self.rest(x - trend)


class _FromLast(nn.Module):
    """Subtract the last value, a linear layer, add it back."""

    def __init__(self, length: int, horizon: int) -> None:
        super().__init__()
        self.linear = nn.Linear(length, horizon)

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]
        return last + self.linear(x - last)


@register
class LFS(DirectForecaster):
    """A linear layer from the states n, 0.7 n, 0.4 n and 0; L1."""

    name = "lfs"
    title = "LFS"
    source = "code of arXiv 2505.02714 (its labels, which were wrong, are not followed)"
    loss = "l1"
    defaults = Training(rate=5e-3, batch=32, epochs=1000, patience=50)

    def _module(self) -> nn.Module:
        columns = [self.n, round(0.7 * self.n), round(0.4 * self.n), 0]
        return _Chosen(columns, self.horizon)


@register
class DLinear(DirectForecaster):
    """The published DLinear: moving average and rest, a linear layer each; mean square.

    The kernel is 25 points, or as many (odd) as half the prefix holds where that is shorter.
    """

    name = "dlinear"
    title = "DLinear"
    source = "Zeng et al. 2023, arXiv 2205.13504"
    defaults = Training(rate=5e-3, batch=32, epochs=1000, patience=50)

    def _module(self) -> nn.Module:
        length = self.n + 1
        kernel = min(25, max(length // 2 | 1, 3))
        return _Decomposed(length, self.horizon, kernel)


@register
class NLinear(DirectForecaster):
    """The published NLinear: a linear layer between subtracting and adding the last value."""

    name = "nlinear"
    title = "NLinear"
    source = "Zeng et al. 2023, arXiv 2205.13504"
    defaults = Training(rate=5e-3, batch=32, epochs=1000, patience=50)

    def _module(self) -> nn.Module:
        return _FromLast(self.n + 1, self.horizon)
