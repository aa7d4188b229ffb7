"""A learned forecaster on top of the affine flow: it forecasts that flow's residuals."""

import numpy as np

from gfm.errors import InputError
from gfm.forecasters.sequence import Transformer
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching import AffineFlow, Conditioning
from gfm.trajectories import Trajectories

__all__ = ["Residual"]

FOLDS = 5


@register
class Residual(Forecaster):
    """The affine flow's forecast, plus a second forecaster's prediction of its residuals.

    The second forecaster is fitted to runs whose later states are w_n + (w - w'), with w' the affine flow's forecast.
    The residuals of runs to which a flow was fitted are smaller than those of new runs. So each fifth of the training
    runs is forecast by a flow fitted to the other four fifths; the validation runs, and new runs, by one fitted to all.

    Args:
        observed: see :class:`Forecaster`.
        rival: the second forecaster, a :class:`Transformer` by default. The affine flow (coordinate view) uses the
            optimizer's state if the rival's option ``optimizer_state`` is set.

    Raises:
        InputError: ``rival`` is not a forecaster.
    """

    name = "residual"
    title = "Over the affine flow"
    source = "ours"

    def __init__(self, observed: int | None = None, rival: Forecaster | None = None) -> None:
        super().__init__(observed)
        self.rival = Transformer() if rival is None else rival
        if not isinstance(self.rival, Forecaster):
            raise InputError(f"rival must be a forecaster, but it is {rival!r}.")
        self.coordinatewise = self.rival.coordinatewise

    @property
    def training(self) -> Training | None:
        """How the rival is trained; None if it is not."""
        return getattr(self.rival, "training", None)

    @training.setter
    def training(self, value: Training) -> None:
        self.rival.training = value  # type: ignore[attr-defined]

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.affine = self._affine(train, validation)
        runs, folds = np.arange(train.runs), min(FOLDS, train.runs)
        forecast = np.empty_like(train.weights[:, self.n + 1 :])
        for fold in range(folds):
            held = runs % folds == fold
            flow = self._affine(train[~held], validation) if folds > 1 else self.affine
            forecast[held] = flow.forecast(train[held].prefix(self.n))
        held_out = None if validation is None else _left(validation, self.affine.forecast(validation.prefix(self.n)))
        self.rival.observed = self.n
        one = self.rival.fit(_left(train, forecast), held_out).fitted
        report.parameters = one.parameters + self.affine.fitted.parameters
        report.epochs, report.best_epoch = one.epochs, one.best_epoch
        report.train, report.validation = one.train, one.validation
        report.notes.update(one.notes, affine=self.affine.fitted.notes)

    def _affine(self, train: Trajectories, validation: Trajectories | None) -> AffineFlow:
        aware = bool(getattr(self.rival, "optimizer_state", False))
        flow = AffineFlow(self.n, view="coordinate", conditioning=Conditioning(optimizer_state=aware))
        return flow.fit(train, validation)

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return self.affine.forecast(prefix, horizon) + (
            self.rival.forecast(prefix, horizon).astype(np.float64) - prefix.weights[:, -1:]
        )


def _left(data: Trajectories, forecast: np.ndarray) -> Trajectories:
    """The runs, with later states replaced by the last observed state plus the residual of the forecast.

    The forecast is (runs, horizon, parameters).
    """
    n = data.weights.shape[1] - forecast.shape[1] - 1
    observed = data.weights[:, : n + 1]
    later = observed[:, -1:] + (data.weights[:, n + 1 :] - forecast)
    weights = np.concatenate([observed, later], axis=1)
    return data.replaced(weights=weights)
