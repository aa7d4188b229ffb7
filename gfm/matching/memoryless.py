"""The plain field in the paper's notation, v(w, t), shared by all weights, without memory of the prefix."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gfm.checks import MOST, counts, flag, instance, whole
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.forecasting.training import Training, train_module, training_or
from gfm.matching.field import perceptron
from gfm.matching.integrate import integrate
from gfm.matching.loss import flow_matching_loss
from gfm.matching.path import IncrementPath
from gfm.trajectories import Trajectories

__all__ = ["MemorylessFlow"]

USUAL = Training(rate=1e-2, batch=100, epochs=400, patience=150, schedule="one-cycle")


@register
class MemorylessFlow(Forecaster):
    """v(w, t) on the line, matched to the increments of all weights of all training runs.

    Its flow transports the distribution of the weights and preserves their order, so it cannot be better than the
    monotone map of w_n (:class:`gfm.forecasters.MonotoneMap`), however well it is fitted. It serves to show that
    limit; if tasks differ it is not a useful forecaster.

    Args:
        observed: see :class:`gfm.forecasters.Forecaster`.
        path: the conditional path.
        hidden: widths of the network's hidden layers.
        samples: places on paths per training step.
        time: whether the field depends on time; if not, it is v(w).
        training: how the network is trained.

    Raises:
        InputError: An option is of another kind, or out of range.
    """

    name = "gfm-memoryless"
    title = "GFM without memory, v(w, t)"
    source = "notation of Shou et al. 2025, arXiv 2505.20221; settings ours"

    def __init__(
        self, observed: int | None = None, *, path: IncrementPath | None = None, hidden: Sequence[int] = (64, 64),
        samples: int = 2048, time: bool = True, training: Training | None = None,
    ) -> None:
        super().__init__(observed)
        usual = IncrementPath() if path is None else path
        self.path = instance("path", usual, IncrementPath, "an IncrementPath(...)")
        self.hidden, self.samples = counts("hidden", hidden), whole("samples", samples, 1, MOST)
        self.time = flag("time", time)
        self.training = training_or(training, USUAL)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        series = torch.from_numpy(to_series(train.weights).astype(np.float64))
        held = torch.from_numpy(to_series((validation or train).weights).astype(np.float64))
        self.steps = series.shape[1] - 1
        self.center, self.spread = float(series.mean()), float(series.std().clamp_min(1e-12))
        self.unit = float(series.diff(dim=1).square().mean().sqrt()) or 1.0
        self.rebuild()
        span = self.path.span
        series, held = series.to(report.device), held.to(report.device)

        def loss(runs: Tensor, generator: torch.Generator, among: Tensor = series) -> Tensor:
            row = torch.randint(len(among), (self.samples,), generator=generator)
            k = torch.randint(0, self.steps - span + 1, (self.samples,), generator=generator)
            return flow_matching_loss(
                lambda w, t: self._network(w, t / self.steps),
                self.path,
                among[row, k],
                among[row, k + span],
                k.to(among.device),
                lambda _, velocity: velocity / self.unit,
                generator,
            )

        def validate() -> float:  # at the same held-out places in every epoch
            return loss(held, torch.Generator().manual_seed(1), held).item()

        train_module(self.field, loss, train.runs, validate, self.training, report)

    def rebuild(self) -> None:
        """Make the network, with its initial weights."""
        self.field = perceptron(6 if self.time else 1, self.hidden, 1, self.training.seed, torch.float64)

    def _network(self, w: Tensor, t: Tensor) -> Tensor:
        inputs = [(w - self.center) / self.spread]
        if self.time:
            inputs += [t, *(f(math.pi * k * t) for k in (1, 2) for f in (torch.sin, torch.cos))]
        return self.field(torch.stack(inputs, dim=-1))[:, 0]

    @torch.no_grad()
    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        start = torch.from_numpy(to_series(prefix.weights[:, -1:]).astype(np.float64))[:, 0]

        def velocity(t: Tensor, w: Tensor) -> Tensor:
            share = ((t + self.n) / self.steps).expand(len(w))
            return self.unit * self._network(w, share)

        states = integrate(velocity, start, horizon).T.numpy()
        return from_series(states, prefix.parameters)
