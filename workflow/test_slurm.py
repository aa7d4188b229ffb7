"""The workflow on a real Slurm of one node, set up here: cells through sbatch, one node killed in the middle.

``make test-cluster`` runs it (Debian or Ubuntu, as root; some minutes) and keeps what was seen in ``tested.json``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from gfm.store.provenance import machine, now

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
HERE = ROOT / "workflow" / "slurm-here.sh"
SHORT = ["both/sign-descent.ipynb", "both/noise.ipynb"]  # at smoke
LONG = "central-flows/rmsprop-edge.ipynb"  # at book: one cell of about a minute

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("apt-get"), reason="needs root on Debian")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([HERE, "start", folder], check=True)
    yield folder
    subprocess.run([HERE, "stop", folder], check=True)


def environment(folder):
    return os.environ | {"GFM_STORE": str(folder / "store"), "GFM_BUILD": str(folder / "build"), "OMP_NUM_THREADS": "1"}


def submit(folder, profile, notebooks, *arguments):
    """Snakemake, started; its messages go to ``said.txt``."""
    command = [BIN / "snakemake", "--snakefile", ROOT / "workflow" / "Snakefile",
               "--profile", ROOT / "workflow" / "profiles" / "slurm", "--seconds-between-status-checks", "5",
               "--slurm-keep-successful-logs", "--slurm-logdir", folder / "logs",
               "--config", f"profile={profile}", f"notebooks={' '.join(notebooks)}", "--", *arguments]
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=environment(folder), stdout=said, stderr=subprocess.STDOUT)


def results(folder):
    found = {}
    for file in sorted((folder / "store").glob("*/*/arrays.npz")):
        with np.load(file) as arrays:
            found[file.parent.name] = {name: arrays[name] for name in arrays.files if "seconds" not in name}
    return found


def same(found, expected):
    assert found.keys() == expected.keys() and found
    for key, arrays in found.items():
        assert arrays.keys() == expected[key].keys()
        for name, value in arrays.items():
            assert np.array_equal(value, expected[key][name], equal_nan=value.dtype.kind == "f"), (key, name)


def without_slurm(folder, profile, notebooks):
    folder.mkdir()
    for name in notebooks:
        subprocess.run([BIN / "gfm", "run", name, "--profile", profile], check=True, cwd=ROOT, env=environment(folder),
                       stdout=subprocess.DEVNULL)
    return results(folder)


def test_cells_and_notebooks_through_sbatch_give_what_they_give_without(slurm, tmp_path):
    before = time.perf_counter()
    run = submit(tmp_path, "smoke", SHORT, "notebooks")
    assert run.wait(600) == 0, (tmp_path / "said.txt").read_text()[-3000:]
    seconds = time.perf_counter() - before
    assert (tmp_path / "said.txt").read_text().count("submitted with SLURM jobid") == 6  # four cells, two notebooks
    assert all((tmp_path / "build/smoke/run" / name).is_file() for name in SHORT)
    same(results(tmp_path), without_slurm(tmp_path / "without", "smoke", SHORT))
    keep("cells and notebooks", seconds)


def test_a_node_that_is_killed_loses_a_cells_last_seconds(slurm, tmp_path):
    before = time.perf_counter()
    run = submit(tmp_path, "book", [LONG], "cells")
    checkpoint = waited(lambda: next((tmp_path / "store").glob("*/.*.checkpoint"), None), 300)
    time.sleep(1)
    kill_the_node(slurm)
    assert checkpoint.exists() and not results(tmp_path)
    waited(lambda: "down" in state(), 120)
    subprocess.run(["slurmd"], check=True)
    waited(lambda: "down" not in state(), 60)
    assert run.wait(1500) == 0, (tmp_path / "said.txt").read_text()[-3000:]
    seconds = time.perf_counter() - before
    found = results(tmp_path)
    same(found, without_slurm(tmp_path / "without", "book", [LONG]))
    assert last_attempt(tmp_path) < 0.8 * last_attempt(tmp_path / "without"), "it began anew"
    keep("a node killed in the middle of a cell", seconds)


def kill_the_node(folder):
    """Everything that runs on it at once, as when the power fails."""
    os.kill(int((folder / "slurmd.pid").read_text()), signal.SIGKILL)
    for name in ("slurmstepd", "gfm cell", "snakemake.*--mode remote"):
        subprocess.run(["pkill", "-9", "-f", name], check=False)


def last_attempt(folder):
    """Seconds that the attempt took which ended with the result."""
    return json.loads(next((folder / "store").glob("*/*/result.json")).read_text())["provenance"]["seconds"]


def state():
    return subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=True).stdout


def waited(found, seconds):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)
    return value


def keep(what, seconds):
    file = ROOT / "workflow" / "tested.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    slurm = subprocess.run(["sinfo", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    known[what] = {"seconds": round(seconds), "when": now(), "on": machine(), "slurm": slurm,
                   "snakemake": version("snakemake")}
    file.write_text(json.dumps(known, indent=1) + "\n")
