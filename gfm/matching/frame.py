"""The frame of a prefix: where its coordinates start, how long their unit is, what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gfm.checks import one_of
from gfm.errors import InputError
from gfm.forecasting.series import from_series, to_series

__all__ = ["CONTEXTS", "SCALES", "Frame", "units_of"]

SCALES = ("none", "run", "layer")
CONTEXTS = ("ends", "prefix")


@dataclass(frozen=True)
class Frame:
    """Coordinates x = (w - w_n) / s in which a run's future starts at 0, one series per weight.

    origin: (series,) the last observed value w_n. scale: (series,) the unit s. prefix: (series, n+2) the
    differences of the other observed states from w_n, then w_n and 1, all in units of s. The last two let an
    affine map know where the run stands, that is, use a prior over the weights; they vanish beside the
    differences when the run moves far.
    """

    origin: np.ndarray
    scale: np.ndarray
    prefix: np.ndarray
    parameters: int

    @property
    def ends(self) -> np.ndarray:
        """(series, 3) the part of ``prefix`` without the states between the first and the last."""
        return np.ascontiguousarray(self.prefix[:, [0, -2, -1]])

    @classmethod
    def of(
        cls,
        prefix: np.ndarray,
        scale: str = "run",
        units: np.ndarray | None = None,
        groups: Sequence[str] | None = None,
    ) -> Frame:
        """The frame of observed states (runs, n+1, parameters), in float64.

        scale: ``"run"``: root mean square over a run's weights of w_n - w_0, so that all runs weigh
        alike; ``"layer"``: the same over the weights of each layer; ``"none"``: 1. units: those of
        :func:`units_of`, from the whole runs where ``prefix`` is a part of them. groups: one label per
        weight, for ``"layer"``.
        """
        weights = prefix.astype(np.float64)
        runs, _, parameters = weights.shape
        units = units_of(weights, scale, groups=groups) if units is None else units
        s = np.broadcast_to(units, (runs, parameters)).reshape(-1)
        series = to_series(weights)
        origin = series[:, -1]
        differences = (series[:, :-1] - origin[:, None]) / s[:, None]
        return cls(origin, s, np.hstack([differences, np.stack([origin / s, 1 / s], axis=1)]), parameters)

    def context(self, name: str) -> np.ndarray:
        """The context called ``name``: ``"ends"`` or ``"prefix"``."""
        one_of("context", name, CONTEXTS)
        return getattr(self, name)

    def inward(self, states: np.ndarray) -> np.ndarray:
        """States (runs, states, parameters) as series (series, states) in the frame."""
        return (to_series(states).astype(np.float64) - self.origin[:, None]) / self.scale[:, None]

    def outward(self, series: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`inward`."""
        return from_series(series * self.scale[:, None] + self.origin[:, None], self.parameters)


def units_of(
    prefix: np.ndarray, scale: str, chunk: int | None = None, groups: Sequence[str] | None = None
) -> np.ndarray:
    """(runs, 1) the unit of every run, or (runs, parameters) that of every weight's layer.

    See :meth:`Frame.of`. chunk: weights looked at at a time. A layer's weights are those whose labels in
    ``groups`` are alike up to the last dot ("2.weight" and "2.bias").

    Raises:
        InputError: an unknown scale, or a layer's unit asked of weights without labels.
    """
    one_of("scale", scale, SCALES)
    runs, _, parameters = prefix.shape
    if scale == "none":
        return np.ones((runs, 1))
    layer = np.zeros(parameters, dtype=np.intp)
    if scale == "layer":
        if groups is None:
            raise InputError("scale='layer' needs trajectories with groups, one label per weight.")
        layer = np.unique([name.rpartition(".")[0] for name in groups], return_inverse=True)[1]
    total = np.zeros((runs, layer.max() + 1))
    for start in range(0, parameters, chunk or parameters):
        part = slice(start, start + (chunk or parameters))
        moved = prefix[:, -1, part].astype(np.float64) - prefix[:, 0, part]
        for number in np.unique(layer[part]):
            total[:, number] += np.square(moved[:, layer[part] == number]).sum(axis=1)
    units = np.sqrt(total / np.bincount(layer))
    units[units == 0] = 1.0  # what never moved is held anyway
    return units[:, layer] if scale == "layer" else units
