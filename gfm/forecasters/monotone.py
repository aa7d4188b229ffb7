"""The best that a memoryless field of one weight can do: the monotone map between two distributions."""

import numpy as np

from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series, to_series
from gfm.trajectories import Trajectories

__all__ = ["MonotoneMap"]


@register
class MonotoneMap(Forecaster):
    """Send the q-quantile of the training weights at step n to their q-quantile at every later step.

    A flow dw/dt = v(w, t) on the line preserves order, so this is the only map by which it can carry the
    distribution of w_n to that of w_{n+k}. Outside the training weights the map is continued with slope one.
    """

    name = "monotone"
    title = "Monotone map (memoryless limit)"
    source = "order preservation of flows on the line"

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.now = np.sort(to_series(train.weights[:, self.n : self.n + 1]).astype(np.float64)[:, 0])
        self.later = np.sort(to_series(train.weights[:, self.n + 1 :]).astype(np.float64), axis=0)
        report.parameters = self.now.size + self.later.size

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        w = to_series(prefix.weights[:, -1:]).astype(np.float64)[:, 0]
        beyond = w - np.clip(w, self.now[0], self.now[-1])
        later = [np.interp(w, self.now, self.later[:, k]) + beyond for k in range(horizon)]
        return from_series(np.stack(later, axis=1), prefix.parameters)
