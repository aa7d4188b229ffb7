"""Forecasts that go farther than a run's own speed suggests are shrunk towards the last observed state.

The forecast of a run unlike the fitted ones can be much too long, and nothing in the flow shows it. The run's own
steps do: with speed v at the last observed step, declining as exp(-r k), the run covers about v (1 - exp(-r h)) / r
in h more steps. Let c be the share of this distance that fitted runs actually cover, in the median. A forecast longer
than c times this distance is outside the fitted range: it is cut to that length, and then shortened once more by the
same factor, because a flow that is wrong about the length is seldom right about the direction.
"""

from dataclasses import dataclass

import numpy as np

from gfm.matching.damping import decline

__all__ = ["Shrinkage", "lengths", "reaches", "squares_of"]

LAST = 5
"""Observed steps over which the speed at the end is averaged."""


def reaches(squares: np.ndarray, horizon: int) -> np.ndarray:
    """(2, runs, horizon) the distances that runs would cover, with the rate r of all observed steps or the last half.

    Args:
        squares: (runs, steps) squared lengths of the observed steps.
        horizon: number of steps ahead.
    """
    steps = squares.shape[1]
    speed = np.sqrt(squares[:, -LAST:].mean(axis=1))[:, None]
    h = np.arange(1, horizon + 1)
    rates = (decline(squares), decline(squares[:, steps // 2 :]))
    return np.stack([speed * -np.expm1(-r[:, None] * h) / r[:, None] for r in rates])


@dataclass(frozen=True)
class Shrinkage:
    """The shrinkage with ``shares`` (2, horizon): c for both rates and every horizon."""

    shares: np.ndarray

    @classmethod
    def of(cls, squares: np.ndarray, ways: np.ndarray) -> "Shrinkage":
        """From fitted runs: ``squares`` as in :func:`reaches`, and later distances ``ways`` (runs, horizon)."""
        reach = reaches(squares, ways.shape[1])
        moving = squares[:, -LAST:].sum(axis=1) > 0
        if not moving.any():
            return cls(np.full((2, ways.shape[1]), np.inf))
        return cls(np.median(ways[moving] / reach[:, moving], axis=1))

    def gains(self, squares: np.ndarray, ways: np.ndarray) -> np.ndarray:
        """(runs, horizon) factors in [0, 1] for forecast displacements of the lengths ``ways`` (runs, horizon).

        Beyond the fitted horizon the last share is used.
        """
        horizon = ways.shape[1]
        at = np.minimum(np.arange(horizon), self.shares.shape[1] - 1)
        known = np.isfinite(self.shares[:, at])[:, None]
        most = np.where(known, self.shares[:, at][:, None] * reaches(squares, horizon), np.inf).min(axis=0)
        longer = ways > most
        return np.where(longer, np.square(most / np.where(longer, ways, 1.0)), 1.0)


def squares_of(weights: np.ndarray) -> np.ndarray:
    """(runs, steps) squared lengths of the steps between states (runs, steps+1, parameters)."""
    pairs = zip(np.moveaxis(weights, 1, 0)[:-1], np.moveaxis(weights, 1, 0)[1:], strict=True)
    return np.stack([np.square(after.astype(np.float64) - before).sum(axis=1) for before, after in pairs], 1)


def lengths(states: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(runs, states) distances of states (runs, states, parameters) from (runs, parameters)."""
    ways = [np.linalg.norm(w.astype(np.float64) - last, axis=1) for w in np.moveaxis(states, 1, 0)]
    return np.stack(ways, axis=1)
