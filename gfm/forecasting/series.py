"""Weights treated separately: every weight of every run is one scalar series."""

import numpy as np

__all__ = ["from_series", "to_series"]


def to_series(weights: np.ndarray) -> np.ndarray:
    """(runs, states, parameters) -> (runs * parameters, states)."""
    return np.swapaxes(weights, 1, 2).reshape(-1, weights.shape[1])


def from_series(series: np.ndarray, parameters: int) -> np.ndarray:
    """(runs * parameters, states) -> (runs, states, parameters)."""
    return np.swapaxes(series.reshape(-1, parameters, series.shape[1]), 1, 2)
