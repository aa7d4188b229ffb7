"""Extrapolation by rules that learn nothing: holding, straight lines, a parabola, a geometric series."""

import numpy as np

from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.trajectories import Trajectories

__all__ = ["Geometric", "Hold", "Linear", "LinearEnds", "Quadratic"]


class _Rule(Forecaster):
    """A formula that uses only the observed states."""

    bounded = False
    states = 1
    """How many observed states the formula needs."""

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        if self.n + 1 < self.states:
            raise InputError(f"{self.name!r} needs at least {self.states} observed states.")
        return self._formula(prefix.weights, np.arange(1, horizon + 1)[None, :, None])

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        """(runs, horizon, parameters) from states w (runs, n+1, parameters) and steps ahead k (1, horizon, 1)."""
        raise NotImplementedError


@register
class Hold(_Rule):
    """w_{n+k} = w_n: the baseline that every forecast must beat."""

    name = "hold"
    title = "Hold"

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        return np.repeat(w[:, -1:], k.size, axis=1)


@register
class Linear(_Rule):
    """w_{n+k} = w_n + k (w_n - w_{n-1}): the last increment repeated."""

    name = "linear"
    title = "Linear, last step"

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        return w[:, -1:] + k * (w[:, -1:] - w[:, -2:-1])


@register
class LinearEnds(_Rule):
    """w_{n+k} = w_n + k (w_n - w_0) / n: the mean increment of the prefix repeated."""

    name = "linear-ends"
    title = "Linear, whole prefix"

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        return w[:, -1:] + k * (w[:, -1:] - w[:, :1]) / self.n


@register
class Quadratic(_Rule):
    """w_{n+k} = w_n + k D1 + k (k+1) / 2 D2, with the latest first and second differences D1 and D2."""

    name = "quadratic"
    title = "Quadratic, last steps"
    states = 3

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        first, second = w[:, -1:] - w[:, -2:-1], w[:, -1:] - 2 * w[:, -2:-1] + w[:, -3:-2]
        return w[:, -1:] + k * first + k * (k + 1) / 2 * second


@register
class Geometric(_Rule):
    """A geometric series through the states 0, n/2 and n: Aitken's delta-squared process.

    With d1 = w_{n/2} - w_0, d2 = w_n - w_{n/2} and r = d2/d1, clipped to [0, 0.999], it is
    w_{n+k} = w_n + d2 r (1 - r^q) / (1 - r), q = k / (n/2). It is exact for a single exponential.
    """

    name = "geometric"
    title = "Geometric (Aitken)"
    source = "Aitken 1926"
    states = 3

    def _formula(self, w: np.ndarray, k: np.ndarray) -> np.ndarray:
        half, last = self.n // 2, w[:, -1]
        d1, d2 = w[:, -1 - half] - w[:, -1 - 2 * half], last - w[:, -1 - half]
        ratio = np.divide(d2, d1, out=np.zeros_like(d2), where=d1 != 0)
        ratio = np.clip(ratio, 0.0, 0.999)[:, None]
        return last[:, None] + d2[:, None] * ratio * (1 - ratio ** (k / half)) / (1 - ratio)
