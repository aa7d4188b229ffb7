"""The central-flows paper's way of taking a small training set out of an image archive."""

from __future__ import annotations

import numpy as np
import torch

from gfm.data.dataset import Dataset, one_hot
from gfm.errors import InputError

__all__ = ["TARGETS", "first_of_each_class", "image_dataset", "target_tensor"]

TARGETS = ("one_hot", "indices", "signs", "parity")


def first_of_each_class(labels: np.ndarray, n: int, classes: int, name: str) -> np.ndarray:
    """Places of the first ``n // classes`` examples of each of the first ``classes`` classes.

    labels: ``(N,)``, 0-based. The result lists class 0's places, then class 1's, ...

    Raises:
        InputError: impossible n or classes, or too few examples of a class.
    """
    known = int(labels.max()) + 1 if len(labels) else 0
    if not 2 <= classes <= known:
        raise InputError(f"{name} has {known} classes: classes={classes} is impossible.")
    if n < classes:
        raise InputError(
            f"n={n} examples of {classes} classes leave a class empty: n is too small."
        )
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


def image_dataset(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    classes: int,
    seed: int,
    targets: str,
    dtype: torch.dtype,
) -> Dataset:
    """Chosen images as a data set: normalised by channel, the order shuffled.

    train, test: images ``(n, channels, height, width)`` of any real dtype and labels ``(n,)``.
    Mean and standard deviation of each channel are those of the chosen training images, and the
    test images are normalised by the same two numbers.
    """
    if targets not in TARGETS:
        raise InputError(f"targets must be one of {', '.join(TARGETS)}, not {targets!r}.")
    if targets == "signs" and classes != 2:
        raise InputError(f"targets='signs' is for two classes, not {classes}.")
    images = train[0].astype(np.float64)
    mean = images.mean(axis=(0, 2, 3), keepdims=True)
    spread = images.std(axis=(0, 2, 3), keepdims=True)
    order = np.random.default_rng(seed).permutation(len(images))
    return Dataset(
        name=name,
        inputs=torch.from_numpy(((images - mean) / spread)[order]).to(dtype),
        targets=target_tensor(train[1][order], targets, classes, dtype),
        outputs=1 if targets in ("signs", "parity") else classes,
        test_inputs=torch.from_numpy((test[0].astype(np.float64) - mean) / spread).to(dtype),
        test_targets=target_tensor(test[1], targets, classes, dtype),
    )


def target_tensor(
    labels: np.ndarray, targets: str, classes: int, dtype: torch.dtype
) -> torch.Tensor:
    """Labels ``(n,)`` as one-hot rows, int64 indices, or a column of signs.

    "signs": class 1 is +1, class 0 is -1. "parity": odd classes are +1, even ones -1.
    """
    indices = torch.from_numpy(labels.astype(np.int64))
    if targets == "indices":
        return indices
    if targets == "parity":
        return (2 * (indices % 2) - 1).to(dtype)[:, None]
    if targets == "signs":
        return (2 * indices - 1).to(dtype)[:, None]
    return one_hot(indices, classes, dtype)
