"""Small files in the canonical layouts of CIFAR-10 and MNIST, of random bytes."""

import gzip
import struct

import numpy as np


def write_cifar(folder, rows=40, seed=0):
    """Six files; row r of file f has label (r + f) % 10. Returns all training rows, file order."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    train = []
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for f, name in enumerate(names):
        body = rng.integers(256, size=(rows, 3073), dtype=np.uint8)
        body[:, 0] = (np.arange(rows) + f) % 10
        body.tofile(folder / name)
        if f < 5:
            train.append(body)
    return np.concatenate(train)


def write_idx(path, array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))


def write_mnist(folder, rows=60, seed=0, splits=("train", "t10k")):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split in splits:
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", rng.integers(256, size=(rows, 28, 28)))
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", np.arange(rows) % 10)
