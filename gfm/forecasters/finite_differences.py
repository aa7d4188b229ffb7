"""Extrapolation by finite differences: straight lines and a parabola."""

from __future__ import annotations

import numpy as np

from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.trajectories import Trajectories

__all__ = ["Linear", "LinearEnds", "Quadratic"]


def _ahead(horizon: int) -> np.ndarray:
    return np.arange(1, horizon + 1)[None, :, None]


@register
class Linear(Forecaster):
    """w_{n+k} = w_n + k (w_n - w_{n-1}): the last increment, kept."""

    name = "linear"
    title = "Linear, last step"
    bounded = False

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        w = prefix.weights
        return w[:, -1:] + _ahead(horizon) * (w[:, -1:] - w[:, -2:-1])


@register
class LinearEnds(Forecaster):
    """w_{n+k} = w_n + k (w_n - w_0) / n: the mean increment of the prefix, kept."""

    name = "linear-ends"
    title = "Linear, whole prefix"
    bounded = False

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        w = prefix.weights
        return w[:, -1:] + _ahead(horizon) * (w[:, -1:] - w[:, :1]) / (w.shape[1] - 1)


@register
class Quadratic(Forecaster):
    """w_{n+k} = w_n + k D1 + k (k+1) / 2 D2, with the last first and second differences D1, D2."""

    name = "quadratic"
    title = "Quadratic, last steps"
    bounded = False

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        w, k = prefix.weights, _ahead(horizon)
        if w.shape[1] < 3:
            raise InputError("'quadratic' needs at least three observed states.")
        first, second = w[:, -1:] - w[:, -2:-1], w[:, -1:] - 2 * w[:, -2:-1] + w[:, -3:-2]
        return w[:, -1:] + k * first + k * (k + 1) / 2 * second
