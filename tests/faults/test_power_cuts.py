"""What is on the disk when a file gets its name: all of it, so that a power cut leaves no empty file."""

import os

import pytest

from gfm import files
from gfm.errors import InputError


@pytest.fixture
def disk(monkeypatch) -> list[tuple[str, object]]:
    """What was done to the disk, in order: ("settled", inode, contents) and ("named", inode or inodes in a folder)."""
    done, rename = [], os.replace

    def settled(number: int) -> None:
        done.append(("settled", os.fstat(number).st_ino, os.pread(number, 1 << 20, 0)))

    def named(old, new) -> None:
        parts = [*old.rglob("*")] if old.is_dir() else [old]
        done.append(("named", sorted(part.stat().st_ino for part in parts if part.is_file())))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", settled)
    monkeypatch.setattr(os, "replace", named)
    return done


def into_a_folder(path) -> None:
    with files.replacing(path) as partial:
        (partial / "in").mkdir(parents=True)
        (partial / "one").write_bytes(b"first")
        (partial / "in" / "two").write_bytes(b"second")


@pytest.mark.parametrize("write, contents", [
    (lambda path: files.write_bytes(path, b"first"), [b"first"]),
    (lambda path: files.write_json(path, {"a": 1}), None),
    (lambda path: files.write_sealed(path, bytes(100_000)), None),
    (into_a_folder, [b"first", b"second"]),
], ids=["bytes", "JSON", "sealed", "folder"])
def test_contents_are_on_the_disk_before_the_name_is(tmp_path, disk, write, contents):
    path = tmp_path / "folder" / "file"
    write(path)
    *settled, (word, inodes) = disk
    assert word == "named" and sorted(inode for _, inode, _ in settled) == inodes
    found = sorted(written for _, _, written in settled)
    assert found == (contents or [path.read_bytes()])


def test_a_disk_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_bytes(path, b"before")

    def fails(number: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(InputError, match="Input/output error"):
        files.write_bytes(path, b"after")
    assert path.read_bytes() == b"before" and [file.name for file in tmp_path.iterdir()] == ["file"]
