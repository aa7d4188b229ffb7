"""Choosing between fitted models on few validation runs, without fitting their noise."""

from collections.abc import Sequence

import numpy as np

__all__ = ["choose", "clearly_better"]


def clearly_better(candidate: np.ndarray, incumbent: np.ndarray) -> bool:
    """Whether the candidate's mean error is lower by more than one standard error.

    Both are (runs,) errors on the same validation runs; the standard error is that of their paired
    difference. With a single run only the mean counts.
    """
    if not np.isfinite(incumbent).all():  # an unstable flow
        return bool(np.isfinite(candidate).all())
    gain = incumbent - candidate
    spread = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else 0.0
    return bool(gain.mean() > spread)


def choose(errors: Sequence[np.ndarray]) -> int:
    """Index of the chosen candidate, given the candidates' (runs,) errors, simplest first.

    By the one-standard-error rule it is the simplest candidate within one standard error of the least mean error.
    """
    best = int(np.argmin([error.mean() for error in errors]))
    for number in range(best):
        if not clearly_better(errors[best], errors[number]):
            return number
    return best
