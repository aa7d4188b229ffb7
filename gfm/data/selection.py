"""The central-flows paper's way of choosing a small training set from an image archive."""

import numpy as np
import torch

from gfm.checks import number, one_of
from gfm.data.dataset import Dataset, one_hot
from gfm.errors import InputError

__all__ = ["image_dataset", "target_tensor"]

TARGETS = ("one_hot", "indices", "signs", "parity")

Labelled = tuple[np.ndarray, np.ndarray]  # images (N, channels, height, width) of any real dtype, and labels (N,)


def image_dataset(
    name: str, archive: Labelled, test: Labelled | None, *, n: int, classes: int, targets: str, seed: int,
    dtype: torch.dtype, noise: float = 0.0,
) -> Dataset:
    """The first ``n // classes`` images of each of the first ``classes`` classes as a data set.

    All images are normalised by each channel's mean and standard deviation over the chosen images. The training
    images are shuffled by ``numpy.random.default_rng(seed)``, which then permutes the labels of a share ``noise`` of
    them. The test set consists of the images of ``test`` that belong to these classes or, without ``test``, of the
    images of ``archive`` that were not chosen.

    Raises:
        InputError: n, classes, targets or noise are impossible.
    """
    noise = number("noise", noise, lambda x: 0 <= x <= 1, "a share, from 0 to 1")
    images, labels = archive
    chosen = _first_of_each_class(labels, n, classes, name)
    if test is None:
        others = np.setdiff1d(np.flatnonzero(labels < classes), chosen)
        test_images, test_labels = images[others], labels[others]
    else:
        test_images, test_labels = (part[test[1] < classes] for part in test)
    train = images[chosen].astype(np.float64)
    mean = train.mean(axis=(0, 2, 3), keepdims=True)
    spread = train.std(axis=(0, 2, 3), keepdims=True)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(train))
    given = labels[chosen][order]
    if noise:
        mixed = generator.permutation(len(given))[: round(noise * len(given))]
        given[mixed] = given[generator.permutation(mixed)]
    rows = target_tensor(given, targets, classes, dtype)
    return Dataset(
        name=name,
        inputs=torch.from_numpy(((train - mean) / spread)[order]).to(dtype),
        targets=rows,
        outputs=classes if rows.ndim == 1 else rows.shape[1],
        test_inputs=torch.from_numpy((test_images.astype(np.float64) - mean) / spread).to(dtype),
        test_targets=target_tensor(test_labels, targets, classes, dtype),
    )


def _first_of_each_class(labels: np.ndarray, n: int, classes: int, name: str) -> np.ndarray:
    # Positions of the chosen examples: those of class 0, then those of class 1, ...
    known = int(labels.max()) + 1 if len(labels) else 0
    if not 2 <= classes <= known:
        raise InputError(f"{name} has {known} classes: classes={classes} is impossible.")
    if n < classes:
        raise InputError(f"n={n} examples of {classes} classes leave a class empty: n is too small.")
    each = n // classes
    chosen = []
    for c in range(classes):
        places = np.flatnonzero(labels == c)
        if len(places) < each:
            raise InputError(
                f"{name} holds {len(places)} training examples of class {c} here, but n={n} needs "
                f"{each}: choose a smaller n."
            )
        chosen.append(places[:each])
    return np.concatenate(chosen)


def target_tensor(labels: np.ndarray, targets: str, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Labels ``(n,)`` as one-hot rows, int64 indices, or a column of signs.

    "signs": class 1 is +1, class 0 is -1. "parity": odd classes are +1, even ones -1.

    Raises:
        InputError: ``targets`` is unknown, or "signs" is used for other than two classes.
    """
    one_of("targets", targets, TARGETS)
    if targets == "signs" and classes != 2:
        raise InputError(f"targets='signs' is for two classes, not {classes}.")
    indices = torch.from_numpy(labels.astype(np.int64))
    if targets == "indices":
        return indices
    if targets == "one_hot":
        return one_hot(indices, classes, dtype)
    return (2 * (indices % 2) - 1).to(dtype)[:, None]
