"""Generated problems for which a network of a few hundred weights is enough."""

import numpy as np
import torch

from gfm.checks import checked, number, whole
from gfm.data.dataset import Dataset
from gfm.data.selection import target_tensor

__all__ = ["moons", "waves"]


@checked
def moons(
    n: int = 128, *, noise: float = 0.1, targets: str = "signs", seed: int = 0, dtype: torch.dtype = torch.float64
) -> Dataset:
    """Two interleaved half circles in the plane, ``n // 2`` points of each class.

    Inputs are ``(n, 2)``. The test set has the same size and distribution.

    Args:
        n: number of points, rounded down to an even number.
        noise: standard deviation of Gaussian noise on the points.
        targets: "signs" or "parity" ``(n, 1)``, "one_hot" ``(n, 2)`` or "indices" ``(n,)``.
        seed: of all random draws.
        dtype: of the inputs and of floating targets.

    Raises:
        InputError: n is below 2, noise is negative, or ``targets`` is unknown.
    """
    whole("n", n, 2)
    rng = np.random.default_rng(seed)
    drawn = [_half_circles(n // 2, noise, rng) for _ in range(2)]
    (x, y), (tx, ty) = [(torch.from_numpy(a).to(dtype), target_tensor(b, targets, 2, dtype)) for a, b in drawn]
    return Dataset("moons", x, y, 2 if y.ndim == 1 else y.shape[1], tx, ty)


def _half_circles(each: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat((0, 1), each)
    angle = rng.uniform(0, np.pi, size=2 * each)
    upper = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    points = np.where(labels[:, None] == 0, upper, (1.0, 0.5) - upper)
    order = rng.permutation(2 * each)
    return (points + noise * rng.standard_normal(points.shape))[order], labels[order]


@checked
def waves(
    n: int = 128, dims: int = 8, *, terms: int = 8, frequency: float = 1.0, seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """A regression on normal inputs ``(n, dims)``: targets ``(n, 1)``, a random sum of waves.

    y = c * sum_j sin(frequency * a_j . x + b_j) over ``terms`` waves, with normal a_j of variance 1 / dims per
    entry, b_j uniform in [0, 2 pi), and c such that y has unit variance in the training set. The test set has the
    same size.

    Raises:
        InputError: n is below 2, dims or terms is below 1, or the frequency is not positive.
    """
    whole("n", n, 2)
    number("frequency", frequency, lambda x: x > 0, "a positive number")
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((dims, terms)) / np.sqrt(dims)
    phases = rng.uniform(0, 2 * np.pi, terms)
    x = rng.standard_normal((2 * n, dims))
    y = np.sin(frequency * x @ directions + phases).sum(1, keepdims=True)
    y /= y[:n].std()
    inputs, targets = torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype)
    return Dataset("waves", inputs[:n], targets[:n], 1, inputs[n:], targets[n:])
