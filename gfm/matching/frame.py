"""The frame of a prefix: where its coordinates start, how long their unit is, what it tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfm.errors import InputError

__all__ = ["CONTEXTS", "SCALES", "Frame", "units_of"]

SCALES = ("none", "run")
CONTEXTS = ("ends", "prefix")


@dataclass(frozen=True)
class Frame:
    """Coordinates x = (w - w_n) / s in which a run's future starts at 0, one series per weight.

    origin: (series,) the last observed value w_n. scale: (series,) the unit s. ends: (series, 3) and
    prefix: (series, n+2) context, both in units of s: differences from w_n (of w_0 alone, or of all
    observed states), then w_n and 1. The last two let an affine map know where the run stands, that
    is, use a prior over the weights; they vanish beside the differences when the run moves far.
    """

    origin: np.ndarray
    scale: np.ndarray
    ends: np.ndarray
    prefix: np.ndarray
    parameters: int

    @classmethod
    def of(cls, prefix: np.ndarray, scale: str = "run", units: np.ndarray | None = None) -> Frame:
        """The frame of observed states (runs, n+1, parameters), in float64.

        scale: ``"run"``: root mean square over a run's weights of w_n - w_0, so that all runs weigh
        alike; ``"none"``: 1. units: (runs,) those of the whole runs, where ``prefix`` is a part of them.
        """
        weights = prefix.astype(np.float64)
        parameters = weights.shape[2]
        units = units_of(weights, scale) if units is None else units
        s = np.repeat(units, parameters)
        series = np.swapaxes(weights, 1, 2).reshape(-1, weights.shape[1])
        origin = series[:, -1]
        differences = (series[:, :-1] - origin[:, None]) / s[:, None]
        place = np.stack([origin / s, 1 / s], axis=1)
        return cls(
            origin=origin,
            scale=s,
            ends=np.hstack([differences[:, :1], place]),
            prefix=np.hstack([differences, place]),
            parameters=parameters,
        )

    def context(self, name: str) -> np.ndarray:
        """The context called ``name``: ``"ends"`` or ``"prefix"``."""
        if name not in CONTEXTS:
            raise InputError(f"context must be one of {CONTEXTS}; got {name!r}.")
        return getattr(self, name)

    def inward(self, states: np.ndarray) -> np.ndarray:
        """States (runs, states, parameters) as series (series, states) in the frame."""
        series = np.swapaxes(states, 1, 2).reshape(-1, states.shape[1]).astype(np.float64)
        return (series - self.origin[:, None]) / self.scale[:, None]

    def outward(self, series: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`inward`."""
        out = series * self.scale[:, None] + self.origin[:, None]
        return np.swapaxes(out.reshape(-1, self.parameters, series.shape[1]), 1, 2)


def units_of(prefix: np.ndarray, scale: str, chunk: int | None = None) -> np.ndarray:
    """(runs,) the unit of every run (see :meth:`Frame.of`), looking at ``chunk`` weights at a time.

    Raises InputError for an unknown scale.
    """
    if scale not in SCALES:
        raise InputError(f"scale must be one of {SCALES}; got {scale!r}.")
    runs, _, parameters = prefix.shape
    if scale == "none":
        return np.ones(runs)
    total = np.zeros(runs)
    for start in range(0, parameters, chunk or parameters):
        part = slice(start, start + (chunk or parameters))
        moved = prefix[:, -1, part].astype(np.float64) - prefix[:, 0, part]
        total += np.square(moved).sum(axis=1)
    units = np.sqrt(total / parameters)
    units[units == 0] = 1.0  # a run that never moved is held anyway
    return units
