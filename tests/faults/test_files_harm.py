"""Files made to do harm: they are refused in a sentence, at once, and nothing outside the project is touched."""

import gzip
import io
import json
import os
import resource
import shutil
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import gfm
from sealed import recorded, rewritten

from gfm.book.register import Register
from gfm.book.runs import committed
from gfm.central import Run
from gfm.data.mnist import read_idx
from gfm.errors import GfmError, InputError, RegisterError, UnreadableFileError
from gfm.files import read_yaml
from gfm.forecasters import load
from gfm.store import Store
from gfm.trajectories import Trajectories
from gfm.trajectories.saved import open_saved

NAME = "part/toy.ipynb"
GIGABYTES = 4


@contextmanager
def little(seconds: float = 2.0, megabytes: float = 600.0):
    """The block takes little time and memory."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.perf_counter() - start < seconds
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3 < megabytes


@pytest.fixture(scope="module")
def bomb(tmp_path_factory) -> Path:
    """An archive of 4 MB whose members, arrays by their heads, unpack to 4 GB."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (GIGABYTES << 28,)})
    block = bytes(1 << 24)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("weights", "header", "steps", "info", "data.pkl"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head.getvalue())
                for _ in range(16 if name != "weights" else 1 << 7):
                    member.write(block)
    return path


@pytest.mark.parametrize("read", [Trajectories.load, lambda p: Trajectories.load(p, memory_map=True), load, Run.load,
                                  open_saved], ids=["trajectories", "mapped", "model", "run", "torch"])
def test_an_archive_that_unpacks_to_gigabytes(bomb, tmp_path, read):
    path = tmp_path / ("bomb.pt" if read is open_saved else "bomb.npz")
    os.link(bomb, path)
    with little(), pytest.raises(UnreadableFileError, match="would unpack"):
        read(path)


def test_a_gzip_that_unpacks_to_a_gigabyte(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(bytes(1 << 24))
    with little(), pytest.raises(UnreadableFileError, match="unpacks to more than"):
        read_idx(path, 3)


ALIASES = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]",
                     *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))])


def test_nested_aliases(project):
    for file, what in (("notebooks/profiles.yml", f"{NAME}:\n  book: &b {{steps: 3}}\n  paper: *b\n" + ALIASES),
                       ("book/elements.yml", ALIASES)):
        before = (project / file).read_text()
        (project / file).write_text(what)
        with little():
            done = gfm(project, "build", "--profile", "book") if "elements" in file else gfm(
                project, "run", NAME, "--profile", "book")
        assert done.returncode == 2 and "alias" in done.stderr and done.stderr.count("\n") == 1, done
        (project / file).write_text(before)
    with little():
        done = gfm(project, "run", NAME, "-p", "shape", "[&a [1.0], *a]")
    assert done.returncode == 2 and "'shape'" in done.stderr


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 20_000, "\t", "a: [", "!!python/object/apply:os.system [ls]",
                                  "\0", "\ufeff- x\n- }"])
def test_yaml_that_is_none(tmp_path, text):
    (tmp_path / "file.yml").write_text(text)
    with little(), pytest.raises(UnreadableFileError):
        read_yaml(tmp_path / "file.yml")
    with little(), pytest.raises(RegisterError):
        Register.read(text, tmp_path)


@pytest.mark.parametrize("name, key", [("toy/decay", "../../../../outside"), ("../outside", "key"), ("/etc", "key"),
                                       ("toy/decay", "/etc"), ("", ""), (None, None), (["a"], {})])
def test_keys_that_lead_out_of_the_project(ran, project, tmp_path, name, key):
    """`gfm keep` follows the keys of a verdict file into the store."""
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    rewritten(project / "build/book/verdicts/toy.json",
              lambda known: known["results"][0].update(experiment=name, key=key))
    recorded(project / "build/book/run" / NAME)
    with pytest.raises(InputError, match="out of the store"):
        committed.keep(Register.load(project), NAME, "book")
    assert not (project / "book/results").exists() and [f.name for f in outside.iterdir()] == ["secret"]
    with pytest.raises(GfmError):
        Store(tmp_path / "store").load(name, key)


class Bad:
    def __reduce__(self):
        return os.system, (f"touch {Bad.mark}",)


@pytest.fixture
def mark(tmp_path):
    Bad.mark = tmp_path / "code ran".replace(" ", "_")
    yield Bad.mark
    assert not Bad.mark.exists(), "code in a file was run"


def test_archives_with_objects_inside(tmp_path, mark):
    path = tmp_path / "objects.npz"
    header = np.frombuffer(json.dumps({"schema": "gfm.trajectories/1", "states": [], "shape": [1], "groups": None,
                                       "meta": {}}).encode(), dtype=np.uint8)
    bad = np.array([Bad()], dtype=object)
    np.savez(path, weights=bad, steps=bad, header=header, info=bad)
    for read in (Trajectories.load, lambda p: Trajectories.load(p, memory_map=True), load, Run.load):
        with pytest.raises(UnreadableFileError):
            read(path)


def test_checkpoints_with_code_inside(tmp_path, mark):
    for name in ("new.pt", "old.pt"):
        torch.save({"model": Bad()}, tmp_path / name, _use_new_zipfile_serialization=name == "new.pt")
        with pytest.raises(UnreadableFileError, match="could run code"):
            open_saved(tmp_path / name)
