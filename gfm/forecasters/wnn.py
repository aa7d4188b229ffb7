"""Weight nowcaster network (WNN): five past values of a weight, and one about five windows on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.forecasting.training import Training, train_module
from gfm.trajectories import Trajectories

__all__ = ["WNN"]

WINDOW = 5


class _Stream(nn.Module):
    """Dense 64, a gate made of it, dense 32."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first, self.narrow = nn.Linear(length, 64), nn.Linear(64, 8)
        self.plain, self.gated, self.gate = nn.Linear(8, 64), nn.Linear(8, 64), nn.Linear(8, 64)
        self.last = nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        c = torch.relu(self.narrow(h))
        mixed = self.plain(c) + self.gated(c) * torch.exp((self.gate(c) * h).clamp(-10, 10))
        return nn.functional.leaky_relu(self.last(mixed))


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values, self.differences = _Stream(WINDOW), _Stream(WINDOW - 1)
        self.out = nn.Linear(64, 1)

    def forward(self, window: Tensor) -> Tensor:
        """(series, 5) values to (series, 1), the value one window on; in and out in weights."""
        first = window[:, :1]
        reach = window.amax(1, keepdim=True) - window.amin(1, keepdim=True)
        unit = 2 * (reach + 1e-5)
        z = (window - first) / unit
        streams = torch.cat([self.values(z), self.differences(z.diff(dim=1))], dim=1)
        # the published bias network adds the raw last value and undoes a factor twice; not followed
        return (z[:, -1:] + torch.tanh(self.out(streams))) * unit + first


@register
class WNN(Forecaster):
    """From the window w_{t-4s}, ..., w_t (s a quarter of the prefix) to w_{t+5s}; L1.

    Learned at every t of the training runs, applied again and again to its own forecasts, with straight
    lines between. One network for all weights; the published one has three, by kind of layer.
    """

    name = "wnn"
    title = "WNN"
    source = "Jang et al. 2023 (ICML)"
    bounded = False

    def __init__(self, observed: int | None = None, training: Training | None = None) -> None:
        super().__init__(observed)
        self.training = training or Training(rate=1e-3, batch=32, epochs=400, patience=40)

    def _fit(
        self, train: Trajectories, validation: Trajectories | None, report: FitReport
    ) -> None:
        self.stride = self.n // (WINDOW - 1)
        if self.stride < 1:
            raise InputError(f"'wnn' needs at least {WINDOW} observed states.")
        series, reach = self._series(train), (WINDOW - 1) * self.stride
        ahead = min(WINDOW * self.stride, self.horizon)
        self.ahead = ahead
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            self.net = _Net()
        held = validation or train
        truth = torch.from_numpy(to_series(held.weights[:, self.n + 1 :]).astype(np.float32))
        back = torch.arange(WINDOW - 1, -1, -1) * self.stride

        def loss(runs: Tensor, generator: torch.Generator) -> Tensor:
            rows = (runs[:, None] * train.parameters + torch.arange(train.parameters)).flatten()
            rows = rows.repeat(4)
            last = series.shape[1] - 1 - ahead
            t = torch.randint(reach, last + 1, (len(rows), 1), generator=generator)
            window = series[rows].gather(1, t - back)
            return (self.net(window) - series[rows].gather(1, t + ahead)).abs().mean()

        def validate() -> float:
            return (self._roll(held.prefix(self.n), self.horizon) - truth).abs().mean().item()

        train_module(self.net, loss, train.runs, validate, self.training, report)

    @staticmethod
    def _series(data: Trajectories) -> Tensor:
        return torch.from_numpy(to_series(data.weights).astype(np.float32))

    @torch.no_grad()
    def _roll(self, prefix: Trajectories, horizon: int) -> Tensor:
        series = self._series(prefix)
        share = torch.arange(1, self.ahead + 1) / self.ahead
        back = torch.arange(WINDOW - 1, -1, -1) * self.stride
        while series.shape[1] - 1 < self.n + horizon:
            last = series[:, -1:]
            end = self.net(series[:, series.shape[1] - 1 - back])
            series = torch.cat([series, last + share * (end - last)], dim=1)
        return series[:, self.n + 1 : self.n + 1 + horizon]

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return from_series(self._roll(prefix, horizon).numpy(), prefix.parameters).astype(np.float64)
