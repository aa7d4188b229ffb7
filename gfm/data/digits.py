"""scikit-learn's handwritten digits: the data set that needs no download."""

from __future__ import annotations

import numpy as np
import torch

from gfm.data.dataset import Dataset
from gfm.data.selection import first_of_each_class, image_dataset

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
    (so n is rounded down to a multiple of classes), the remaining ones of these digits the test
    set. Normalised by the training images' mean and standard deviation; order shuffled by
    ``numpy.random.default_rng(seed)``.

    targets: "one_hot" ``(n, classes)`` for "mse"; "indices" ``(n,)`` for "cross_entropy";
        "signs" ``(n, 1)``, two classes only; "parity" ``(n, 1)``, +1 for odd digits.

    Raises:
        InputError: impossible n, classes or targets.
    """
    from sklearn.datasets import load_digits  # slow to import, so only when used

    bunch = load_digits()
    images, labels = bunch.images[:, None], bunch.target
    chosen = first_of_each_class(labels, n, classes, "digits")
    rest = np.setdiff1d(np.flatnonzero(labels < classes), chosen)
    return image_dataset(
        "digits",
        (images[chosen], labels[chosen]),
        (images[rest], labels[rest]),
        classes=classes,
        seed=seed,
        targets=targets,
        dtype=dtype,
    )
