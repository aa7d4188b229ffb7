"""Introspection: from four past values of a weight to its value at twice the time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.forecasting.training import Training, train_module
from gfm.trajectories import Trajectories

__all__ = ["Introspection"]

SHARES = (1.0, 0.7, 0.4, 0.0)


def _at(series: Tensor, times: Tensor) -> Tensor:
    """(series, k) values at the fractional times (series, k), linear between states."""
    low = times.floor().long().clamp(0, series.shape[1] - 1)
    high = (low + 1).clamp_max(series.shape[1] - 1)
    share = times - low
    return (1 - share) * series.gather(1, low) + share * series.gather(1, high)


@register
class Introspection(Forecaster):
    """f(w_t, w_0.7t, w_0.4t, w_0) = w_2t: one hidden layer of 40, L1, times t drawn from 1..T/2.

    Weights that move most are drawn most: half of a batch from the upper half by ``|w_t - w_0|``, a quarter
    from the next quarter, a quarter from the rest. Beyond 2n the map is applied to its own forecasts;
    between, straight lines. Values enter as differences from w_0 in units of their typical size (the
    published 1000 times is a fixed unit for small networks).
    """

    name = "introspection"
    title = "Introspection"
    source = "Sinha et al. 2017, arXiv 1704.04959"
    bounded = False

    def __init__(self, observed: int | None = None, training: Training | None = None) -> None:
        super().__init__(observed)
        self.training = training or Training(rate=3e-3, batch=32, epochs=400, patience=40)

    def _fit(
        self, train: Trajectories, validation: Trajectories | None, report: FitReport
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            self.net = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 1))
        series = self._series(train)
        self.unit = float((series - series[:, :1]).square().mean().sqrt()) or 1.0
        steps = series.shape[1] - 1
        held = validation or train
        truth = torch.from_numpy(to_series(held.weights[:, self.n + 1 :]).astype(np.float32))

        def loss(runs: Tensor, generator: torch.Generator) -> Tensor:
            rows = (runs[:, None] * train.parameters + torch.arange(train.parameters)).flatten()
            t = torch.randint(1, max(steps // 2, 1) + 1, (len(rows), 1), generator=generator)
            chosen = self._moving(series[rows], t, generator)
            rows, t = rows[chosen], t[chosen]
            target = _at(series[rows], 2.0 * t)
            return ((self._step(series[rows], t.float()) - target) / self.unit).abs().mean()

        def validate() -> float:
            forecast = self._roll(held.prefix(self.n), self.horizon)
            return (forecast - truth).abs().mean().item()

        train_module(self.net, loss, train.runs, validate, self.training, report)

    @staticmethod
    def _moving(series: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Numbers of the drawn series, those that moved most with preference."""
        order = (series.gather(1, t) - series[:, :1]).abs().flatten().argsort(descending=True)
        count = len(order)
        parts = (order[: count // 2], order[count // 2 : 3 * count // 4], order[3 * count // 4 :])
        sizes = (count - 2 * (count // 4), count // 4, count // 4)
        drawn = [
            part[torch.randint(0, len(part), (size,), generator=generator)]
            for part, size in zip(parts, sizes, strict=True)
            if len(part) and size
        ]
        return torch.cat(drawn) if drawn else order

    @staticmethod
    def _series(data: Trajectories) -> Tensor:
        return torch.from_numpy(to_series(data.weights).astype(np.float32))

    def _step(self, series: Tensor, t: Tensor) -> Tensor:
        """(series, 1) forecast of the value at 2t from the values up to t."""
        start = series[:, :1]
        inputs = torch.cat([_at(series, share * t) for share in SHARES], dim=1)
        return inputs[:, :1] + self.unit * self.net((inputs - start) / self.unit)

    @torch.no_grad()
    def _roll(self, prefix: Trajectories, horizon: int) -> Tensor:
        series = self._series(prefix)
        while series.shape[1] - 1 < self.n + horizon:
            t = series.shape[1] - 1
            end = self._step(series, torch.full((len(series), 1), float(t)))
            share = torch.arange(1, t + 1) / t
            series = torch.cat([series, series[:, -1:] + share * (end - series[:, -1:])], dim=1)
        return series[:, self.n + 1 : self.n + 1 + horizon]

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return from_series(self._roll(prefix, horizon).numpy(), prefix.parameters).astype(np.float64)
