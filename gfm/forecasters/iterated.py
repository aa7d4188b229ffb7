"""Learned maps from past values of a weight to one later value, applied repeatedly to their own forecasts."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gfm.forecasting.base import Forecaster
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.forecasting.training import Training, train_module, training_or
from gfm.randomness import seeding
from gfm.trajectories import Trajectories

__all__ = ["IteratedForecaster"]


class IteratedForecaster(Forecaster):
    """A network shared by all weights, trained at all times of the training runs.

    Values between the last state and the forecast one are interpolated linearly. The validation loss is the L1
    error of whole forecasts.
    """

    bounded = False
    defaults: ClassVar[Training]

    def __init__(self, observed: int | None = None, training: Training | None = None) -> None:
        super().__init__(observed)
        self.training = training_or(training, self.defaults)

    @abstractmethod
    def _network(self, series: Tensor) -> nn.Module:
        """A new network for the training series (series, steps+1)."""

    @abstractmethod
    def _loss(self, series: Tensor, generator: torch.Generator) -> Tensor:
        """The mean L1 loss over some series, at times drawn from the generator."""

    @abstractmethod
    def _next(self, series: Tensor) -> tuple[Tensor, int]:
        """(series, 1) forecast values, and the number of steps by which they follow the last state."""

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        series, held = _series(train), _series(validation or train).to(report.device)
        with seeding(self.training.seed):
            self.net = self._network(series)
        series = series.to(report.device)
        seen, truth = held[:, : self.n + 1], held[:, self.n + 1 :]
        numbers = torch.arange(train.parameters)
        train_module(
            self.net,
            lambda runs, generator: self._loss(series[(runs[:, None] * len(numbers) + numbers).flatten()], generator),
            train.runs,
            lambda: (self._roll(seen, self.horizon) - truth).abs().mean().item(),
            self.training,
            report,
        )

    def rebuild(self) -> None:
        """Make the network, with its initial weights."""
        with seeding(self.training.seed):
            self.net = self._network(torch.zeros(1, self.n + self.horizon + 1))

    @torch.no_grad()
    def _roll(self, series: Tensor, horizon: int) -> Tensor:
        while series.shape[1] - 1 < self.n + horizon:
            last = series[:, -1:]
            end, ahead = self._next(series)
            share = torch.arange(1, ahead + 1, device=series.device) / ahead
            series = torch.cat([series, last + share * (end - last)], dim=1)
        return series[:, self.n + 1 : self.n + 1 + horizon]

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return from_series(self._roll(_series(prefix), horizon).numpy(), prefix.parameters).astype(np.float64)


def _series(data: Trajectories) -> Tensor:
    return torch.from_numpy(to_series(data.weights).astype(np.float32))
