"""MNIST, from its gzipped IDX files."""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from gfm.checks import checked
from gfm.data.dataset import Dataset
from gfm.data.places import cache, locate
from gfm.data.selection import image_dataset
from gfm.errors import InputError, UnreadableFileError, said

__all__ = ["mnist", "read_idx"]

INNER = "mnist"
_MOST = 1 << 28  # bytes: five times the largest file, so that a small one cannot fill the memory
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


@checked
def mnist(
    n: int = 1000, classes: int = 10, *, split: str = "train", folder: str | os.PathLike[str] | None = None,
    targets: str = "one_hot", seed: int = 0, dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Images ``(n, 1, 28, 28)`` of the first ``classes`` digits, chosen as those of CIFAR-10.

    Args:
        n: total number of training images.
        classes: number of digits, the first ones.
        split: "train" chooses n training images and tests on all test images of these digits; "t10k" takes both from
            the test file, for a folder that contains only that: the n chosen images to train, the others to test.
        folder: contains the four gzipped IDX files, directly or in ``mnist``. Without it, the folder named by the
            environment variable GFM_DATA is tried; otherwise the files (12 MB) are downloaded into the user's cache
            and their MD5s checked.
        targets: as for ``cifar10``.
        seed: as for ``cifar10``.
        dtype: as for ``cifar10``.

    Raises:
        InputError: split, n, classes or targets are impossible.
        UnreadableFileError: A file is missing, truncated or not of this format.
    """
    if split not in ("train", "t10k"):
        raise InputError(f"split must be 'train' or 't10k', not {split!r}.")
    place = locate("MNIST", INNER, f"{split}-images-idx3-ubyte.gz", folder, _download)
    archive = _read_pair(place, split)
    test = _read_pair(place, "t10k") if split == "train" else None
    return image_dataset("mnist", archive, test, n=n, classes=classes, targets=targets, seed=seed, dtype=dtype)


def _read_pair(place: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(place / f"{split}-images-idx3-ubyte.gz", 3)
    labels = read_idx(place / f"{split}-labels-idx1-ubyte.gz", 1)
    if len(images) != len(labels) or labels.max(initial=0) > 9:
        raise UnreadableFileError(
            f"MNIST's {split} files in {place} do not belong together: {len(images)} images and "
            f"{len(labels)} labels up to {labels.max(initial=0)}."
        )
    return images[:, None], labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of bytes in a gzipped IDX file, of the shape that its head gives.

    Raises:
        UnreadableFileError: The file is missing, truncated, or not IDX of bytes with this number of dimensions.
    """
    try:
        with gzip.open(path) as file:
            raw = file.read(_MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableFileError(f"{path.name} of MNIST cannot be read: {said(error)}.") from None
    if len(raw) > _MOST:
        raise UnreadableFileError(f"{path} unpacks to more than {_MOST >> 20} MB, as no file of MNIST does.")
    head = 4 + 4 * dimensions
    if len(raw) < head or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise UnreadableFileError(f"{path} is not an IDX file of bytes with {dimensions} dimensions.")
    shape = np.frombuffer(raw, ">u4", dimensions, offset=4).tolist()
    if len(raw) - head != math.prod(shape):
        raise UnreadableFileError(
            f"{path} holds {len(raw) - head} bytes, but its head promises {math.prod(shape)}: it is truncated."
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def _download() -> Path:
    import pooch

    place = cache() / INNER
    for name, md5 in MD5.items():
        pooch.retrieve(URL + name, known_hash=f"md5:{md5}", path=place, fname=name)
    return place
