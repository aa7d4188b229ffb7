"""CIFAR-10 and MNIST from small files in their canonical layouts; nothing is ever downloaded."""

import gzip
import os

import numpy as np
import pooch
import pytest
import torch
from archives import write_cifar, write_idx, write_mnist

from gfm.data import cifar10, mnist
from gfm.errors import InputError, UnreadableFileError


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    monkeypatch.delenv("GFM_DATA", raising=False)


def test_cifar10_takes_the_papers_selection(tmp_path):
    rows = write_cifar(tmp_path)
    data = cifar10(24, 3, folder=tmp_path, targets="indices", dtype=torch.float64)
    assert data.inputs.shape == (24, 3, 32, 32)
    assert len(data.test_inputs) == 12 and data.test_targets.max() == 2
    channels = data.inputs.transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(channels.std(1, correction=0), torch.ones(3, dtype=torch.float64))
    # The rule, written once more: first 8 rows of each class, then the shuffled order.
    chosen = np.concatenate([np.flatnonzero(rows[:, 0] == c)[:8] for c in range(3)])
    pixels = rows[chosen, 1:].reshape(-1, 3, 32, 32).astype(float)
    pixels = (pixels - pixels.mean((0, 2, 3))[:, None, None]) / pixels.std((0, 2, 3))[:, None, None]
    order = np.random.default_rng(0).permutation(24)
    np.testing.assert_allclose(data.inputs, pixels[order], atol=1e-12)
    np.testing.assert_array_equal(data.targets, rows[chosen, 0][order])


def test_cifar10_finds_the_inner_folder_and_the_environments(tmp_path, monkeypatch):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    a = cifar10(20, 2, folder=tmp_path)
    monkeypatch.setenv("GFM_DATA", str(tmp_path))
    assert cifar10(20, 2).fingerprint == a.fingerprint
    assert a.targets.shape == (20, 2)


def test_cifar10_counts_rows_by_the_files_size(tmp_path):
    write_cifar(tmp_path, rows=10)
    assert len(cifar10(20, 4, folder=tmp_path)) == 20
    with pytest.raises(InputError, match="5 training examples of class 0"):
        cifar10(24, 4, folder=tmp_path)


def test_cifar10_refuses_truncated_foreign_and_missing_files(tmp_path):
    write_cifar(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UnreadableFileError, match="truncated"):
        cifar10(20, 2, folder=tmp_path)
    path.write_bytes(b"")
    with pytest.raises(UnreadableFileError, match="truncated"):
        cifar10(20, 2, folder=tmp_path)
    path.write_bytes(bytes([77]) + whole[1:])
    with pytest.raises(UnreadableFileError, match="label 77"):
        cifar10(20, 2, folder=tmp_path)
    path.unlink()
    with pytest.raises(UnreadableFileError, match="data_batch_3"):
        cifar10(20, 2, folder=tmp_path)
    with pytest.raises(UnreadableFileError, match="holds no data_batch_1"):
        cifar10(20, 2, folder=tmp_path / "elsewhere")


def test_without_a_folder_the_download_is_asked_for():
    with pytest.raises(AssertionError, match="tried to download"):
        cifar10(20, 2)
    with pytest.raises(AssertionError, match="tried to download"):
        mnist(20, 2)


def test_mnist_reads_both_splits(tmp_path):
    write_mnist(tmp_path / "mnist")
    data = mnist(10, 5, folder=tmp_path)
    assert data.inputs.shape == (10, 1, 28, 28) and data.targets.shape == (10, 5)
    assert len(data.test_inputs) == 30


def test_mnist_works_from_the_test_file_alone(tmp_path):
    write_mnist(tmp_path, splits=("t10k",))
    data = mnist(10, 5, split="t10k", folder=tmp_path)
    assert len(data) == 10 and len(data.test_inputs) == 20
    with pytest.raises(UnreadableFileError, match="train-images"):
        mnist(10, 5, folder=tmp_path)
    with pytest.raises(InputError, match="split"):
        mnist(10, 5, split="test", folder=tmp_path)


def test_mnist_refuses_broken_files(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        mnist(10, 2, folder=tmp_path)
    raw = gzip.decompress(whole)
    path.write_bytes(gzip.compress(raw[:-5]))
    with pytest.raises(UnreadableFileError, match="truncated"):
        mnist(10, 2, folder=tmp_path)
    path.write_bytes(gzip.compress(b"\x00\x00\x0d\x03" + raw[4:]))
    with pytest.raises(UnreadableFileError, match="not an IDX"):
        mnist(10, 2, folder=tmp_path)
    write_idx(path, np.zeros((3, 28, 28)))
    with pytest.raises(UnreadableFileError, match="do not belong together"):
        mnist(10, 2, folder=tmp_path)


REAL = os.environ.get("GFM_DATA")  # read at import, before the fixture hides it


@pytest.mark.skipif(not REAL, reason="GFM_DATA names no folder with the real archives")
def test_the_real_cifar10_folder_gives_the_papers_setting():
    data = cifar10(folder=REAL)
    assert data.inputs.shape == (1000, 3, 32, 32)
    assert torch.equal(data.targets.sum(0), torch.full((4,), 250.0))


@pytest.mark.skipif(not REAL, reason="GFM_DATA names no folder with the real archives")
def test_the_real_mnist_test_file():
    data = mnist(500, split="t10k", folder=REAL)
    assert len(data) == 500 and len(data.test_inputs) == 9500


@pytest.mark.parametrize("failure, words", [
    (ConnectionError("no route"), "cannot be reached.*GFM_DATA"),
    (ValueError("MD5 hash of downloaded file does not match the known hash"), "checksum.*GFM_DATA"),
])
def test_a_download_that_fails_says_what_to_do(monkeypatch, tmp_path, failure, words):
    def retrieve(*args, **kwargs):
        raise failure

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    for load in (cifar10, mnist):
        with pytest.raises(UnreadableFileError, match=words):
            load(20, 2)
    monkeypatch.setenv("GFM_DATA", str(tmp_path))
    with pytest.warns(UserWarning, match="holds no data_batch_1.bin"), pytest.raises(UnreadableFileError):
        cifar10(20, 2)
