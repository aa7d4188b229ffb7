"""CIFAR-10, from its binary version."""

import os
from pathlib import Path

import numpy as np
import torch

from gfm.checks import checked
from gfm.data.dataset import Dataset
from gfm.data.places import cache, locate
from gfm.data.selection import image_dataset
from gfm.errors import UnreadableFileError, said

__all__ = ["cifar10", "read_batch"]

INNER = "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
ROW = 1 + 3 * 32 * 32


@checked
def cifar10(
    n: int = 1000, classes: int = 4, *, folder: str | os.PathLike[str] | None = None, targets: str = "one_hot",
    seed: int = 0, dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Images ``(n, 3, 32, 32)`` of the first ``classes`` classes, chosen as in the paper.

    They are the first ``n // classes`` training images of each class in file order, normalised by the mean and
    standard deviation of each channel over the chosen images, and shuffled by ``numpy.random.default_rng(seed)``.
    The test set contains all test images of these classes. The central-flows paper uses the defaults.

    Args:
        n: total number of training images (rounded down to a multiple of ``classes``).
        classes: number of classes, the first ones.
        folder: contains the binary version's files, directly or in ``cifar-10-batches-bin``; the number of rows is
            taken from the files' sizes. Without it, the folder named by the environment variable GFM_DATA is tried;
            otherwise the archive (170 MB) is downloaded into the user's cache and its MD5 checked.
        targets: "one_hot" ``(n, classes)``, "indices" ``(n,)``, "signs" ``(n, 1)`` for two classes, or "parity"
            ``(n, 1)``.
        seed: of the order.
        dtype: of the images and of floating targets.

    Raises:
        InputError: n, classes or targets are impossible.
        UnreadableFileError: A file is missing, truncated or not of this format.
    """
    place = locate("CIFAR-10", INNER, TRAIN[0], folder, _download)
    images, labels = (np.concatenate(part) for part in zip(*(read_batch(place / name) for name in TRAIN), strict=True))
    test = read_batch(place / TEST)
    return image_dataset(
        "cifar10", (images, labels), test, n=n, classes=classes, targets=targets, seed=seed, dtype=dtype
    )


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(rows, 3, 32, 32)`` uint8 and labels ``(rows,)`` uint8 of one file.

    Raises:
        UnreadableFileError: The file is missing, has no whole number of rows, or has labels above 9.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UnreadableFileError(f"{path.name} of CIFAR-10 cannot be read: {said(error)}.") from None
    if raw.size == 0 or raw.size % ROW:
        raise UnreadableFileError(
            f"{path} has {raw.size} bytes, no whole number of rows of {ROW}: it is truncated or not "
            "of CIFAR-10's binary version."
        )
    rows = raw.reshape(-1, ROW)
    labels = rows[:, 0]
    if labels.max() > 9:
        raise UnreadableFileError(f"{path} has the label {labels.max()}, but CIFAR-10's are 0 to 9: another format.")
    return rows[:, 1:].reshape(-1, 3, 32, 32), labels


def _download() -> Path:
    import pooch

    files = pooch.retrieve(
        URL,
        known_hash=f"md5:{MD5}",
        path=cache(),
        fname="cifar-10-binary.tar.gz",
        processor=pooch.Untar(members=[f"{INNER}/{name}" for name in (*TRAIN, TEST)]),
        progressbar=True,
    )
    return Path(files[0]).parent
