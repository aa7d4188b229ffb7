"""The frame of a prefix: the origin and unit of its coordinates, and its context."""

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

    Attributes:
        origin: (series,) the last observed value w_n.
        scale: (series,) the unit s.
        prefix: (series, n+2) the differences of the other observed states from w_n, then w_n and 1, all in units
            of s. The last two allow an affine map to use a prior over the weights; they are negligible
            if the run moves far.
        parameters: number of weights per run.
    """

    origin: np.ndarray
    scale: np.ndarray
    prefix: np.ndarray
    parameters: int

    @property
    def ends(self) -> np.ndarray:
        """(series, 3) ``prefix`` without the states between the first and the last."""
        return np.ascontiguousarray(self.prefix[:, [0, -2, -1]])

    @classmethod
    def of(
        cls, prefix: np.ndarray, scale: str = "run", units: np.ndarray | None = None,
        groups: Sequence[str] | None = None,
    ) -> "Frame":
        """The frame of observed states, in float64.

        Args:
            prefix: (runs, n+1, parameters) observed states.
            scale: ``"run"``: root mean square of w_n - w_0 over a run's weights, so that all runs have equal
                weight; ``"layer"``: the same over the weights of each layer; ``"none"``: 1.
            units: the result of :func:`units_of` for the whole runs, if ``prefix`` is a part of them.
            groups: one label per weight, for ``"layer"``.
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
        """The context (series, features) called ``name``: ``"ends"`` or ``"prefix"``."""
        one_of("context", name, CONTEXTS)
        return getattr(self, name)

    def inward(self, states: np.ndarray) -> np.ndarray:
        """States (runs, states, parameters) as series (series, states) in the frame."""
        return (to_series(states).astype(np.float64) - self.origin[:, None]) / self.scale[:, None]

    def outward(self, series: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`inward`: series (series, states) as states (runs, states, parameters)."""
        return from_series(series * self.scale[:, None] + self.origin[:, None], self.parameters)


def units_of(
    prefix: np.ndarray, scale: str, chunk: int | None = None, groups: Sequence[str] | None = None
) -> np.ndarray:
    """(runs, 1) the unit of every run, or (runs, parameters) that of every weight's layer; see :meth:`Frame.of`.

    Weights belong to the same layer if their labels in ``groups`` agree up to the last dot ("2.weight" and "2.bias").

    Args:
        prefix: (runs, n+1, parameters) observed states.
        scale: one of SCALES.
        chunk: number of weights processed at a time.
        groups: one label per weight, for ``"layer"``.

    Raises:
        InputError: The scale is unknown, or ``"layer"`` is used for weights without labels.
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
    units[units == 0] = 1.0  # weights that never moved are held anyway
    return units[:, layer] if scale == "layer" else units
