"""Linear forecasters trained by gradient descent: LFN, LFS, LFD-2, DLinear and NLinear."""

from dataclasses import replace

from torch import Tensor, cat, nn
from torch.nn import functional as F

from gfm.checks import amount
from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["LFD2", "LFN", "LFS", "DLinear", "NLinear"]


class _Linear(DirectForecaster):
    defaults = Training(rate=5e-3, batch=32, epochs=5000, patience=50)


@register
class LFN(_Linear):
    """y = A x + b with x = (w_0, ..., w_n), y = (w_{n+1}, ...), shared by all weights; L1 loss, Adam at 0.005.

    The published recipe stops after 5 epochs without a better validation loss, sometimes far too early; the
    patience here is 50.
    """

    name = "lfn"
    title = "LFN"
    source = "Shou et al. 2025, arXiv 2505.02714"
    loss = "l1"

    def _module(self) -> nn.Module:
        return nn.Linear(self.n + 1, self.horizon)


class _Chosen(nn.Module):
    """A linear layer from some of the observed states."""

    def __init__(self, columns: list[int], horizon: int) -> None:
        super().__init__()
        self.columns = columns
        self.linear = nn.Linear(len(columns), horizon)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, self.columns])


@register
class LFS(_Linear):
    """A linear layer from the states n, 0.7 n, 0.4 n and 0; L1 loss."""

    name = "lfs"
    title = "LFS"
    source = "code of arXiv 2505.02714 (its labels, which were wrong, are not followed)"
    loss = "l1"

    def _module(self) -> nn.Module:
        return _Chosen([self.n, round(0.7 * self.n), round(0.4 * self.n), 0], self.horizon)


@register
class LFD2(_Linear):
    """y = A (w_0, w_n) + b with L1 loss and a penalty on steps that grow.

    The penalty term is ``penalty`` times the mean of ``max(|step j+1| - |step j|, 0)``. It represents the
    first-order optimality condition, under which predicted steps shrink. Its published form was only partly
    readable and its weight is unknown, so both are our completion.

    Raises:
        InputError: ``penalty`` is no number of at least 0.
    """

    name = "lfd-2"
    title = "LFD-2"
    source = "Shou et al. 2025, arXiv 2505.02714; penalty completed by us"
    loss = "l1"

    def __init__(self, observed: int | None = None, training: Training | None = None, penalty: float = 0.1) -> None:
        super().__init__(observed, training)
        self.penalty = amount("penalty", penalty)

    def _module(self) -> nn.Module:
        return _Chosen([0, -1], self.horizon)

    def _penalty(self, observed: Tensor, predicted: Tensor) -> Tensor | float:
        if predicted.shape[1] < 2 or self.penalty == 0:
            return 0.0
        steps = cat([observed[:, -1:], predicted], dim=1).diff(dim=1).abs()
        return self.penalty * steps.diff(dim=1).clamp_min(0).mean()


class _Decomposed(nn.Module):
    """Trend (moving average with repeated ends) and remainder, with a linear layer for each."""

    def __init__(self, length: int, horizon: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.trend, self.rest = nn.Linear(length, horizon), nn.Linear(length, horizon)

    def forward(self, x: Tensor) -> Tensor:
        side = (self.kernel - 1) // 2
        padded = F.pad(x[:, None], (side, self.kernel - 1 - side), mode="replicate")
        trend = F.avg_pool1d(padded, self.kernel, stride=1)[:, 0]
        return self.trend(trend) + self.rest(x - trend)


@register
class DLinear(_Linear):
    """The published DLinear: moving average and remainder, with a linear layer for each; squared loss.

    The kernel has 25 points, or about half the prefix's length (an odd number, at least 3) if that is less.
    """

    name = "dlinear"
    title = "DLinear"
    source = "Zeng et al. 2023, arXiv 2205.13504"
    defaults = replace(_Linear.defaults, rate=1e-2)

    def _module(self) -> nn.Module:
        length = self.n + 1
        return _Decomposed(length, self.horizon, kernel=min(25, max(length // 2 | 1, 3)))


class _FromLast(nn.Linear):
    """A linear layer between subtracting the last value and adding it back."""

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]
        return last + super().forward(x - last)


@register
class NLinear(_Linear):
    """The published NLinear: a linear layer between subtracting and adding the last value."""

    name = "nlinear"
    title = "NLinear"
    source = "Zeng et al. 2023, arXiv 2205.13504"
    defaults = replace(_Linear.defaults, rate=1e-2)

    def _module(self) -> nn.Module:
        return _FromLast(self.n + 1, self.horizon)
