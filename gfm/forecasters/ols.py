"""Ordinary least squares from observed states to every later one, in closed form."""

from collections.abc import Sequence

import numpy as np

from gfm.checks import MOST, counts
from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.trajectories import Trajectories

__all__ = ["OLS", "OLSEnds"]


@register
class OLS(Forecaster):
    """An affine map, shared by all weights, from all observed states to each later one, fitted in float64.

    It is the closed form of the one-layer forecaster LFN (arXiv 2505.02714) with a squared instead of an L1 loss.

    Args:
        observed: see :class:`Forecaster`.
        columns: numbers of the observed states that are used (default: all).
    """

    name = "ols"
    title = "OLS, all observed states"

    def __init__(self, observed: int | None = None, columns: Sequence[int] | None = None) -> None:
        super().__init__(observed)
        self.columns = None if columns is None else counts("columns", columns, -MOST)

    def _features(self, weights: np.ndarray) -> np.ndarray:
        series = to_series(weights).astype(np.float64)
        if self.columns is not None:
            if not all(-self.n - 1 <= column <= self.n for column in self.columns):
                raise InputError(f"columns {self.columns} are not all observed states 0..{self.n}.")
            series = series[:, list(self.columns)]
        return np.hstack([series, np.ones((len(series), 1))])

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        features = self._features(train.weights[:, : self.n + 1])
        later = to_series(train.weights[:, self.n + 1 :]).astype(np.float64)
        # least squares by orthogonal factorisation: the normal equations would square the condition number
        self.coefficients = np.linalg.lstsq(features, later, rcond=None)[0]
        report.parameters = self.coefficients.size

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        later = self._features(prefix.weights) @ self.coefficients[:, :horizon]
        return from_series(later, prefix.parameters)


@register
class OLSEnds(OLS):
    """OLS on the first and the last observed state only, with a constant."""

    name = "ols-ends"
    title = "OLS, first and last state"

    def __init__(self, observed: int | None = None) -> None:
        super().__init__(observed, columns=(0, -1))
