"""Full disks, folders that cannot be written to, no home, an ASCII terminal, no network: a sentence, nothing half."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from book.conftest import make_project
from commands import gfm
from programs import BUILD, NAME, RUN, ended, partial, ran, start

from gfm.errors import InputError
from gfm.files import write_json, write_sealed, write_text
from gfm.store import Result, Store
from gfm.trajectories import Trajectories

SIZE = 4096  # KB


def mounted(what: str, folder: Path, *options: str) -> None:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, what, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of its own."""
    folder = tmp_path / "project" / "build"
    folder.parent.mkdir()
    mounted("tmpfs", folder, "-t", "tmpfs", "-o", f"size={SIZE}k")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(disk: Path, left: int) -> Path:
    """A file that leaves so many KB on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize) - (left << 10))
    return ballast


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


WRITERS = {
    "text": lambda path, n: write_text(path, "x" * n),
    "json": lambda path, n: write_json(path, {"x": "x" * n}),
    "sealed": lambda path, n: write_sealed(path, bytes(n)),
    "trajectories": lambda path, n: Trajectories(np.random.default_rng(0).normal(size=(1, 4, n // 16)),
                                                 np.arange(4)).save(path.with_suffix(".npz")),
    "result": lambda path, n: Store(path.parent, ()).save("toy/one", "a-b", Result({"x": np.arange(n // 4)}, {})),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_on_a_full_disk_a_file_is_written_whole_or_stays(disk, write):
    write(disk / "file", 1000)
    filled(disk, 100)
    before = files(disk)
    if write is WRITERS["result"]:  # a valid entry stays as it is
        shutil.rmtree(disk / "toy")
        before = files(disk)
    with pytest.raises(InputError, match="No space left on device.*make room"):
        write(disk / "file", 1_000_000)
    assert files(disk) == before


@pytest.mark.parametrize("left", [20, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 4, 8, 12, 60, 90, 120))])
def test_a_notebook_on_a_full_disk(disk, left):
    root = make_project(disk.parent)
    ballast = filled(disk, left)
    told = ended(start(root, *RUN), code=1)
    assert "No space left on device): make room" in told
    assert not list(disk.rglob("toy.ipynb")) and not list(disk.rglob("*.run.json"))
    for half in disk.rglob("*.failed.ipynb"):
        json.loads(half.read_text())
    ballast.unlink()
    ran(root, *RUN)
    assert not partial(root)


@pytest.mark.slow
@pytest.mark.parametrize("left", [400, 1000, 2000])
def test_pages_on_a_full_disk(disk, left):
    root = make_project(disk.parent)
    ran(root, *RUN)
    ballast = filled(disk, left)
    told = start(root, *BUILD)
    out, err = told.communicate()
    assert told.returncode in (1, 2) and "No space left on device" in err and "Traceback (" not in err, out + err
    assert not (root / "build/site/built.sha256").exists()
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    ran(root, *BUILD)


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
    """A project that cannot be written to, by root neither."""
    root = make_project(tmp_path / "project")
    if os.geteuid():
        for folder in (root, *(f for f in root.rglob("*") if f.is_dir())):
            folder.chmod(0o555)
        yield root
        for folder in (root, *(f for f in root.rglob("*") if f.is_dir())):
            folder.chmod(0o755)
        return
    mounted(str(root), root, "--bind")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(root)], check=True)
        yield root
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)


def test_in_a_folder_that_cannot_be_written_to(read_only, monkeypatch):
    before = files(read_only)
    for arguments, code in ((RUN, 1), (("new", "other"), 2), (("build", "--profile", "smoke"), 1)):
        done = gfm(read_only, *arguments)
        assert done.returncode == code and "cannot be written (" in done.stderr, done
        assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2, done.stderr
    for arguments in ("status", "check", "cite", "cells --profile smoke"):
        done = gfm(read_only, *arguments.split())
        assert done.returncode == 0 and not done.stderr, done
    assert files(read_only) == before and {f.name for f in read_only.iterdir()} == {"book", "notebooks"}


READ = (("status", 0), ("check", 1), ("cells --profile smoke", 0))  # the toy's third claim fails


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The toy with letters that are not ASCII in its notebook and its register, and what it writes elsewhere."""
    root = make_project(tmp_path_factory.mktemp("letters") / "project")
    for file in (root / "notebooks" / NAME, root / "book/elements.yml"):
        file.write_text(file.read_text().replace("ecaying line", "ecaying line, τ ≤ ∞").replace("never", "“never”"))
    ran(root, *RUN)
    return root, files(root / "build")


def same(root: Path, before: dict[str, bytes], **variables: str | None) -> str:
    """Run the notebook again from nothing: it gives the same bytes; and the commands that read."""
    shutil.rmtree(root / "build")
    said = ended(start(root, *RUN, **variables))
    after = files(root / "build")
    for name in before:
        if name.endswith((".ipynb", ".csv", ".svg", ".png")) or "/data/" in name:
            assert after[name] == before[name], name
    for words, code in READ:
        said += ended(start(root, *words.split(), **variables), code)
    return said


@pytest.mark.parametrize("home", [pytest.param("/dev/null/none", id="missing"),
                                  pytest.param(None, id="unset", marks=pytest.mark.slow)])
def test_without_a_home(letters, home):
    same(*letters, HOME=home, XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None, MPLCONFIGDIR=None)


def test_on_a_terminal_that_knows_ascii_only(letters):
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0",
                  "PYTHONCOERCECLOCALE": "0"}
    assert same(*letters, **ascii_only).isascii()
    told = ended(start(letters[0], *RUN, "-p", "label", "é", **ascii_only), code=2)
    assert "choose UTF-8" in told


@pytest.fixture
def offline() -> list[str]:
    """Words before a command that leave it no network but its own machine."""
    words = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no process can be cut off from the network here")
    return words


def test_data_without_a_network(tmp_path, offline):
    root = make_project(tmp_path / "project")
    told = ended(start(root, "data", "fetch", "mnist", before=offline, HOME=str(tmp_path), XDG_CACHE_HOME=None,
                       GFM_DATA=None), code=2)
    assert "MNIST cannot be downloaded" in told and not [f for f in tmp_path.rglob("*ubyte*") if f.is_file()]


@pytest.mark.parametrize("command", [RUN, BUILD, ("run", NAME, "--in-place")], ids=["run", "build", "in place"])
def test_a_machine_that_does_not_reach_itself(tmp_path, command):
    alone = ["unshare", "-rn"]  # not even its loopback interface is up
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("no process can be cut off from the network here")
    root = make_project(tmp_path / "project")
    before = files(root)
    told = ended(start(root, *command, before=alone), code=2)
    assert "this machine does not reach itself at 127.0.0.1" in told and told.count("gfm: ") == 1
    assert {name: data for name, data in files(root).items() if not name.endswith(".lock")} == before


@pytest.mark.slow
def test_a_build_without_a_network(tmp_path, offline):
    root = make_project(tmp_path / "project")
    ended(start(root, *BUILD, before=offline))
    assert (root / "build/site/html/notebooks/part/toy.html").is_file()
