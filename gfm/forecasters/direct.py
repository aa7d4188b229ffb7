"""Learned maps from the prefix to the whole future at once, trained by gradient descent."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gfm.forecasting.base import Forecaster
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series
from gfm.forecasting.training import Training, train_module, training_or
from gfm.randomness import seeding
from gfm.trajectories import Trajectories

__all__ = ["DirectForecaster", "root_mean_square"]


def root_mean_square(values: Tensor, dim: int | None = None) -> Tensor:
    """The root mean square of all values (0-d), or along ``dim``; 1 where it is 0, so that it can serve as a unit."""
    size = values.square().mean().sqrt() if dim is None else values.square().mean(dim).sqrt()
    return torch.where(size > 0, size, 1.0)


def _by_weight(weights: np.ndarray) -> Tensor:
    """(runs, states, parameters) -> (runs, parameters, states), float32."""
    return torch.from_numpy(np.ascontiguousarray(np.swapaxes(weights, 1, 2))).to(torch.float32)


class DirectForecaster(Forecaster):
    """A module from (series, n+1) to (series, horizon), shared by all weights.

    A training item is a run with all its weights, or a single series. The class variable ``loss`` is ``"l1"`` or
    ``"mse"``. The validation loss is the training loss on the validation runs (on the training runs if there are
    none). A module's buffer ``unit`` is set to the root mean square difference of the observed states from the
    last one. A subclass may let the module see more than the states (:meth:`_observed`) and set other units
    (:meth:`_measure`).

    Args:
        observed: see :class:`Forecaster`.
        training: see :class:`Training`.
    """

    loss: ClassVar[str] = "mse"
    per_series: ClassVar[bool] = True
    """Whether the module sees series one by one; otherwise (runs, parameters, n+1) at once."""
    by_series: ClassVar[bool] = False
    """Whether a training item is a series (the weights of all runs are shuffled) instead of a run."""
    defaults: ClassVar[Training] = Training()

    def __init__(self, observed: int | None = None, training: Training | None = None) -> None:
        super().__init__(observed)
        self.training = training_or(training, self.defaults)

    @abstractmethod
    def _module(self) -> nn.Module:
        """A new module for ``self.n`` and ``self.horizon``."""

    def rebuild(self) -> None:
        """Make the module, with its initial weights."""
        with seeding(self.training.seed):
            self.module = self._module()

    def _penalty(self, observed: Tensor, predicted: Tensor) -> Tensor | float:
        """A term added to the loss; by default none."""
        return 0.0

    def _observed(self, prefix: Trajectories) -> Tensor:
        """(runs, parameters, n+1) what the module sees of a prefix, as float32."""
        return _by_weight(prefix.weights)

    def _tensors(self, data: Trajectories) -> tuple[Tensor, Tensor]:
        """The module's input for whole runs, and the (runs, parameters, horizon) states to be forecast."""
        return self._observed(data.prefix(self.n)), _by_weight(data.weights[:, self.n + 1 :])

    def _measure(self, observed: Tensor, later: Tensor) -> None:
        """Set the module's units from the training runs."""
        for name, buffer in self.module.named_buffers():
            if name == "unit":
                buffer.copy_(root_mean_square(observed - observed[..., -1:]))

    def _error(self, observed: Tensor, later: Tensor) -> Tensor:
        if self.per_series:
            observed, later = observed.flatten(0, 1), later.flatten(0, 1)
        predicted = self.module(observed)
        difference = predicted - later
        value = difference.abs().mean() if self.loss == "l1" else difference.square().mean()
        return value + self._penalty(observed, predicted)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.rebuild()
        observed, later = self._tensors(train)
        self._measure(observed, later)
        observed, later = observed.to(report.device), later.to(report.device)
        if self.by_series:
            observed, later = (part.flatten(0, 1)[:, None] for part in (observed, later))
        held_observed, held_later = (part.to(report.device) for part in self._tensors(validation or train))
        train_module(
            self.module,
            lambda items, _: self._error(observed[items], later[items]),
            len(observed),
            lambda: self._error(held_observed, held_later).item(),
            self.training,
            report,
        )

    @torch.no_grad()
    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        observed = self._observed(prefix)
        if self.per_series:
            later = torch.cat([self.module(chunk) for chunk in observed.flatten(0, 1).split(65_536)])
        else:
            later = torch.cat([self.module(chunk) for chunk in observed.split(256)]).flatten(0, 1)
        return from_series(later.numpy()[:, :horizon], prefix.parameters).astype(np.float64)
