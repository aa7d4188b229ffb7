"""scikit-learn's handwritten digits: the data set that needs no download."""

from __future__ import annotations

import torch

from gfm.data.dataset import Dataset
from gfm.data.selection import image_dataset

__all__ = ["digits"]


def digits(
    n: int = 500,
    classes: int = 4,
    *,
    targets: str = "one_hot",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Images ``(n, 1, 8, 8)`` of the first ``classes`` digits, about 180 of each at most.

    The first ``n // classes`` images of each digit in the file's order are the training set
    (so n is rounded down to a multiple of classes), the remaining ones of these digits are the test
    set. Normalised by the training images' mean and standard deviation; order shuffled by
    ``numpy.random.default_rng(seed)``.

    targets: "one_hot" ``(n, classes)`` for "mse"; "indices" ``(n,)`` for "cross_entropy";
        "signs" ``(n, 1)``, two classes only; "parity" ``(n, 1)``, +1 for odd digits.

    Impossible n, classes or targets are an ``InputError``.
    """
    from sklearn.datasets import load_digits  # slow to import, so only when used

    bunch = load_digits()
    archive = bunch.images[:, None], bunch.target
    return image_dataset("digits", archive, None, n=n, classes=classes, targets=targets, seed=seed, dtype=dtype)
