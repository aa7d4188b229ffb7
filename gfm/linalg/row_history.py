"""Rows along a path, and their continuation."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["RowHistory"]

#: Number of blocks of rows that are kept.
MOST = 6


class RowHistory:
    """Blocks of rows (k, p) at the last times, newest first, each rotated to resemble the one before it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.rows: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.times)

    @property
    def newest(self) -> Tensor:
        """The last rows (k, p)."""
        return self.rows[0]

    @property
    def next(self) -> float:
        """One unit after the last time."""
        return self.times[0] + 1.0 if self.times else 0.0

    def add(self, time: float, rows: Tensor, first: int) -> None:
        """Add rows (k, p) at ``time``.

        Entries at or after ``time`` are dropped; all are, if the number of rows grew. The first ``first`` rows and the
        others are each rotated within their span to match the previous rows.
        """
        self.forget(time, also=True)
        if self.rows and len(self.newest) < len(rows):
            self.forget()  # a new direction has no past
        if self.rows:
            parts = (slice(first), slice(first, len(rows)))
            rows = torch.cat([_turned(rows[part], self.newest[part]) for part in parts if len(rows[part])])
        self.times = [time, *self.times[: MOST - 1]]
        self.rows = [rows, *(old[: len(rows)] for old in self.rows[: MOST - 1])]

    def at(self, time: float) -> Tensor:
        """The rows (k, p) at a later ``time``, by a cubic fitted to those that are kept; a new tensor."""
        first, *others = _weights(tuple(round(t - time, 9) for t in self.times))
        start = first * self.newest
        for factor, rows in zip(others, self.rows[1:], strict=True):
            start.add_(rows, alpha=factor)
        return start

    def rate(self) -> Tensor:
        """Change of the rows (k, p) per unit of time, from the last two changes (or one); a new tensor.

        The slope of a cubic would amplify errors: the central flow would repeat twice as many steps.
        """
        before = min(2, len(self.times) - 1)
        return (self.newest - self.rows[before]).div_(self.times[0] - self.times[before])

    def forget(self, after: float = -np.inf, also: bool = False) -> None:
        """Forget the rows at times later than ``after`` (by default all); with ``also``, those at ``after`` too."""
        kept = sum(t < after if also else t <= after for t in self.times)
        gone = len(self.times) - kept
        self.times, self.rows = self.times[gone:], self.rows[gone:]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers."""
        return {"times": list(self.times), "rows": list(self.rows)}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self.times, self.rows = list(kept["times"]), list(kept["rows"])


@lru_cache(maxsize=1024)
def _weights(times: tuple[float, ...]) -> tuple[float, ...]:
    """Weights with which values at these times, newest first, give the value at time zero on a cubic through them.

    With fewer than four points the polynomial has a lower degree; with more it is fitted by least squares, which
    amplifies errors less.
    """
    powers = np.vander(times, min(4, len(times)), increasing=True)
    return tuple(np.linalg.pinv(powers)[0].tolist())


def _turned(rows: Tensor, onto: Tensor) -> Tensor:
    """``rows`` rotated within their span to match the rows ``onto`` as closely as possible (Procrustes); a copy."""
    overlap = onto @ rows.T
    if len(rows) == 1:
        return torch.copysign(torch.ones_like(overlap), overlap) * rows
    u, _, vt = torch.linalg.svd(overlap)
    return (u @ vt) @ rows
