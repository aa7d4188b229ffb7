"""Files that are replaced as a whole or not at all."""

import subprocess

import numpy as np
import pytest

from gfm import files
from gfm.files import check_archive, parse_yaml, replacing, write_text


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "new" / "one.json"
    write_text(path, "first")
    write_text(path, "second")
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_a_block_that_raises_leaves_what_was_there(tmp_path, folder):
    path = tmp_path / "one"
    path.write_text("first")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        if folder:
            partial.mkdir()
            (partial / "part").write_text("half")
        else:
            partial.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "one"
    ended = subprocess.Popen(["true"])
    ended.wait()
    left, foreign = (tmp_path / f".one.{host}-{ended.pid}-01234567.partial" for host in (files._HOST, "0" * 8))
    for partial in (left, foreign):
        partial.write_text("half")
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:  # as another thread or process that writes the same file
            second.write_text("second")
            assert first.read_text() == "first" and not left.exists()
        assert path.read_text() == "second"
    assert path.read_text() == "first" and set(tmp_path.iterdir()) == {path, foreign}  # that machine is not asked


def test_an_archive_is_refused_by_how_far_it_unpacks_not_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_UNPACKED", 10_000)
    for name, values in (("full", np.random.default_rng(0).random(10_000)), ("empty", np.zeros(1_000_000))):
        np.savez_compressed(tmp_path / f"{name}.npz", values=values)
    check_archive(tmp_path / "full.npz")
    with pytest.raises(ValueError, match="would unpack"):
        check_archive(tmp_path / "empty.npz")


def test_deep_nesting_is_refused_before_it_is_parsed():
    assert parse_yaml("[" * 100 + "]" * 100)
    with pytest.raises(ValueError, match="more than 100 levels deep"):
        parse_yaml("[" * 101 + "]" * 101)
