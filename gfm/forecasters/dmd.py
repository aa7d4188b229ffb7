"""Dynamic mode decomposition: the best linear map from each state of a run to the next."""

import numpy as np

from gfm.checks import whole
from gfm.forecasting.base import Forecaster, register
from gfm.trajectories import Trajectories

__all__ = ["DynamicModes"]


@register
class DynamicModes(Forecaster):
    """x_{i+1} ~ K x_i with x = (w, 1), fitted to each run's own prefix by truncated least squares.

    Eigenvalues of K outside the unit circle are scaled back to modulus 1, because a run that settles has none.

    Args:
        observed: see :class:`Forecaster`.
        rank: number of singular values kept; with stochastic gradients the others are noise.

    Raises:
        InputError: ``rank`` is no whole number of at least 1.
    """

    name = "dmd"
    title = "Dynamic modes (DMD)"
    source = "Schmid 2010"
    bounded = False

    def __init__(self, observed: int | None = None, rank: int = 3) -> None:
        super().__init__(observed)
        self.rank = whole("rank", rank, 1)

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        out = np.empty((prefix.runs, horizon, prefix.parameters))
        for run, weights in enumerate(prefix.weights.astype(np.float64)):
            out[run] = self._continue(weights, horizon)
        return out

    def _continue(self, weights: np.ndarray, horizon: int) -> np.ndarray:
        origin = weights[-1]
        scale = np.abs(weights - origin).max() or 1.0
        # the constant row lets the modes settle at a point other than the origin
        states = np.vstack([((weights - origin) / scale).T, np.ones(len(weights))])
        u, s, vt = np.linalg.svd(states[:, :-1], full_matrices=False)
        rank = min(self.rank, int((s > 1e-12 * s[0]).sum()))
        u, s, vt = u[:, :rank], s[:rank], vt[:rank]
        values, vectors = np.linalg.eig(u.T @ states[:, 1:] @ vt.T / s)
        values = values / np.maximum(np.abs(values), 1.0)
        amplitudes = np.linalg.lstsq(vectors, u.T @ states[:, -1], rcond=None)[0]
        powers = values[None, :] ** np.arange(1, horizon + 1)[:, None]
        ahead = (powers * amplitudes) @ (u @ vectors).T
        return origin + scale * ahead.real[:, :-1]
