"""Weight trajectories of least squares, as in the paper before GFM (arXiv 2505.02714).

Every trajectory i has its own 100 x d matrix X_i ~ N(0, 1) and its own optimum w*_i ~ N(0, 1), starts
from w_0 ~ U(0, 1)^d and descends the *sum* of squares ``1/2 |X_i (w - w*_i)|^2``:

- ``"GD"``: full batch, learning rate 0.01 / lambda_max(X_i' X_i);
- ``"SGD"``: 8 rows without replacement at every step, learning rate 0.001.

The random numbers are those of the published generator, so the sets are reproduced up to rounding. As a
consequence, only w* depends on the sample number; X_i, w_0 and the mini-batches are the same in all samples,
so the spread over samples is less than that of full replicates. Another number ``draw`` gives other random
numbers for these three, and so independent sets.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gfm.checks import known
from gfm.errors import InputError

__all__ = ["LeastSquaresSet", "least_squares", "shared_least_squares"]

ROWS = 100
BATCH = 8
GD_RATE = 0.01  # divided by lambda_max(X'X)
SGD_RATE = 0.001


@dataclass(frozen=True)
class LeastSquaresSet:
    """A set of recorded descents and the data that determine them.

    Attributes:
        weights: (runs, steps+1, d).
        optima: (runs, d).
        inputs: (runs, 100, d).
        rates: (runs,) learning rates.
        batches: (runs, steps, 8) row numbers of each step, or None for full batches.
    """

    name: str
    weights: np.ndarray
    optima: np.ndarray
    inputs: np.ndarray
    rates: np.ndarray
    batches: np.ndarray | None


def least_squares(
    dimension: int = 1, optimizer: str = "GD", sample: int = 1, runs: int = 200, steps: int = 200, draw: int = 0
) -> LeastSquaresSet:
    """One of the published sets (``dimension`` 1 or 3, ``"GD"`` or ``"SGD"``, ``sample`` 1 to 5), or another one.

    Args:
        dimension: number of weights.
        optimizer: ``"GD"`` or ``"SGD"``.
        sample: number of the sample, which determines the optima.
        runs: number of trajectories.
        steps: number of steps.
        draw: 0 for the published inputs, starts and mini-batches; any other number for independent ones.

    Raises:
        InputError: A size is below 1, or ``sample`` is negative.
        UnknownNameError: The optimizer is unknown.
    """
    inputs, starts, optima, batches = _recipe(dimension, optimizer, sample, runs, steps, draw)
    name = f"least squares, {dimension} weights, {optimizer}, sample {sample}"
    return _descend(name, inputs, starts, optima, batches, steps)


def shared_least_squares(
    dimension: int = 3, optimizer: str = "SGD", sample: int = 1, runs: int = 200, steps: int = 200
) -> LeastSquaresSet:
    """The published set with one task for all runs: X and w* of run 0.

    Only starts and mini-batch rows differ between runs; they are those of :func:`least_squares`, as are arguments and
    errors.
    """
    inputs, starts, optima, batches = _recipe(dimension, optimizer, sample, runs, steps)
    name = f"least squares, {dimension} weights, {optimizer}, sample {sample}, one shared task"
    inputs, optima = (np.repeat(part[:1], runs, axis=0) for part in (inputs, optima))
    return _descend(name, inputs, starts, optima, batches, steps)


def _recipe(
    dimension: int, optimizer: str, sample: int, runs: int, steps: int, draw: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    # Inputs, starts, optima and mini-batches.
    known("least-squares optimizer", optimizer, ("GD", "SGD"))
    if min(dimension, runs, steps) < 1 or sample < 0:
        raise InputError("dimension, runs and steps must be at least 1 and sample at least 0.")
    inputs, starts, batches = _draws(dimension, optimizer == "SGD", runs, steps, draw)
    return inputs, starts, np.random.RandomState(sample).normal(size=(runs, dimension)), batches


@lru_cache(maxsize=24)
def _draws(
    dimension: int, stochastic: bool, runs: int, steps: int, draw: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Inputs, starts and mini-batches, with one random stream per trajectory, in the published order."""
    inputs = np.empty((runs, ROWS, dimension))
    starts = np.empty((runs, dimension))
    batches = np.empty((runs, steps, BATCH), dtype=np.int64) if stochastic else None
    for run in range(runs):
        stream = np.random.RandomState(run + 1_000_000 * draw)
        inputs[run] = stream.normal(size=(ROWS, dimension))
        starts[run] = stream.uniform(size=dimension)
        if batches is not None:
            for step in range(steps):
                batches[run, step] = stream.choice(ROWS, BATCH, replace=False)
    for array in (inputs, starts) + ((batches,) if batches is not None else ()):
        array.flags.writeable = False  # the cache is shared by the samples
    return inputs, starts, batches


def _descend(
    name: str, inputs: np.ndarray, starts: np.ndarray, optima: np.ndarray, batches: np.ndarray | None, steps: int
) -> LeastSquaresSet:
    weights = np.empty((len(starts), steps + 1, starts.shape[1]))
    weights[:, 0] = starts
    gram = np.einsum("ind,ine->ide", inputs, inputs)
    if batches is None:
        rates = GD_RATE / np.linalg.eigvalsh(gram)[:, -1]
    else:
        rates = np.full(len(starts), SGD_RATE)
    for step in range(steps):
        if batches is not None:
            rows = np.take_along_axis(inputs, batches[:, step, :, None], axis=1)
            gram = np.einsum("ind,ine->ide", rows, rows)
        gradient = np.einsum("ide,ie->id", gram, weights[:, step] - optima)
        weights[:, step + 1] = weights[:, step] - rates[:, None] * gradient
    return LeastSquaresSet(name, weights, optima, inputs, rates, batches)
