"""Killed, interrupted, told to stop: the next call gives the same bytes, and nothing of the first one goes on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from book.conftest import make_project
from programs import BUILD, NAME, RUN, ended, environment, partial, ran, start

from gfm.book.runs import records

pytestmark = pytest.mark.no_cover
ENDED = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}  # or before Python can hear them

# An experiment that says when it has begun, and goes on until it is killed if the file `held` is there.
HELD = """
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from gfm import store

HERE = Path(__file__).parent

@dataclass(frozen=True)
class Held(store.Experiment):
    name: ClassVar[str] = "toy/held"

    def compute(self, context):
        context.progress(1, 2)
        (HERE / "begun").touch()
        while (HERE / "held").exists():
            time.sleep(0.02)
        return store.Result({"y": np.arange(3.0)})
"""


def code(text: str, number: int) -> dict:
    return {"cell_type": "code", "id": f"more-{number}", "metadata": {}, "execution_count": None, "outputs": [],
            "source": text}


@pytest.fixture
def root(tmp_path) -> Path:
    """The toy, with the experiment above before its last cell."""
    root = make_project(tmp_path / "project")
    (root / "held.py").write_text(HELD)
    file = root / "notebooks" / NAME
    notebook = json.loads(file.read_text())
    notebook["cells"][-1:-1] = [code("from held import Held\nheld = element.obtain(Held())", 0)]
    file.write_text(json.dumps(notebook))
    return root


def descendants(root: Path) -> list[str]:
    """Processes that a build of this project started: they have its folder in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("GFM_BUILD") == str(root / "build") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def gone(root: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := descendants(root)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not left, left


def written(root: Path) -> dict[str, bytes | list]:
    """What a build wrote, without times and with no page; of verdicts the claims, of stored results the arrays."""
    out: dict[str, bytes | list] = {}
    for file in sorted((root / "build").rglob("*")):
        name = file.relative_to(root / "build").as_posix()
        if not file.is_file() or name.startswith("site/") or file.suffix in (".lock", ".log"):
            continue
        if "/verdicts/" in name:
            out[name] = json.loads(file.read_text())["claims"]
        elif file.name.endswith(("result.json", ".run.json")):
            out[name] = sorted(json.loads(file.read_text()))
        else:
            out[name] = file.read_bytes()
    return out


def stop(process: subprocess.Popen[str], root: Path, number: signal.Signals) -> None:
    """Send the signal, Ctrl-C as a terminal does to all of a group; nothing may be left after five seconds."""
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode in {0, *ENDED[number]}, (process.returncode, err)
    gone(root, began + 5.0 - time.monotonic())


def held(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command that has come to the experiment, and is in it until it is killed."""
    (root / "held").touch()
    process = start(root, *arguments)
    end = time.monotonic() + 120
    while not (root / "begun").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    return process


def let_go(root: Path) -> None:
    for name in ("held", "begun"):
        (root / name).unlink()


@pytest.mark.parametrize("number", [pytest.param(n, id=n.name, marks=[pytest.mark.slow] * (n == signal.SIGTERM))
                                    for n in ENDED])
def test_a_notebook_that_is_stopped_stops_at_once_and_runs_again(root, number):
    process = held(root, *RUN)
    stop(process, root, number)
    assert process.returncode in ENDED[number]
    assert not partial(root) and not list((root / "build").rglob("toy.ipynb")), "half a run is left"
    assert not list((root / "build").rglob("*.run.json")) and not list((root / "build").rglob("*.error"))
    let_go(root)
    ran(root, *RUN)
    assert not partial(root)
    if number == signal.SIGKILL:
        again = written(root)
        shutil.rmtree(root / "build")
        ran(root, *RUN)
        assert written(root) == again


CHECKPOINTED = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from toys import tiny_problem
import gfm
run = gfm.central.run(tiny_problem(width=3), gfm.optimizers.GradientDescent(lr=0.3), 120, checkpoint=sys.argv[1],
                      checkpoint_every=1, processes=["discrete", "central"],
                      progress=lambda done, steps: print(done, flush=True))
for name in ("discrete", "central"):
    for key, value in sorted(run[name].items()):
        print(name, key, value.tobytes().hex())
"""


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on_from_its_checkpoint(tmp_path):
    """Every time a few steps further, until it is done: the numbers are those of a run that nobody stopped."""
    path, tests = tmp_path / "run.checkpoint", str(Path(__file__).parents[1])

    def begun():
        return subprocess.Popen([sys.executable, "-c", CHECKPOINTED, str(path), tests], env=environment(tmp_path),
                                text=True, stdout=subprocess.PIPE)

    def numbers(text):
        return [line for line in text.splitlines() if not line.isdigit()]

    unbroken = numbers(begun().communicate(timeout=120)[0])
    seen, moments = [], random.Random(1)
    for _ in range(4):
        process = begun()
        seen += [int(process.stdout.readline()) for _ in range(moments.randint(2, 5))][:1]
        process.kill()
        process.communicate()
    assert seen == sorted(seen) and seen[-1] > seen[0], seen
    left = begun().communicate(timeout=120)[0]
    assert int(left.split()[0]) > 1 and numbers(left) == unbroken
    assert not list(tmp_path.iterdir()), "a checkpoint or half of one is left"


def test_a_cell_that_is_killed_is_computed_again(root):
    listed = json.loads(ran(root, "cells", NAME, "--profile", "smoke", "--json"))
    (key,) = (one["key"] for one in listed if one["experiment"] == "toy/held")
    cell = ("cell", key, NAME, "--profile", "smoke")
    process = held(root, *cell)
    stop(process, root, signal.SIGKILL)
    assert process.returncode == -9 and not list((root / "build").rglob("result.json"))
    let_go(root)
    assert "computed" in ran(root, *cell) and "stored result" in ran(root, *cell)
    assert not partial(root)


@pytest.mark.slow
def test_two_that_run_the_same_notebook_at_once_give_one_result(root):
    both = [start(root, *RUN) for _ in range(2)]
    for process in both:
        ended(process)
    assert not partial(root)
    assert not records.damage(root / "build/smoke/run" / NAME)


# -- with pages, which take longer -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What a build writes that nobody stopped, and the seconds that it took."""
    root = make_project(tmp_path_factory.mktemp("unbroken") / "project")
    began = time.monotonic()
    ran(root, *BUILD)
    return written(root), pages(root), time.monotonic() - began


def pages(root: Path) -> dict[str, bytes]:
    html = root / "build/site/html"
    return {f.relative_to(html).as_posix(): f.read_bytes() for f in html.rglob("*.html")
            if f.name not in ("status.html", "index.html", "toy.html", "search.html", "genindex.html")}


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_a_build_killed_at_a_random_moment(unbroken, tmp_path, moment):
    right, right_pages, seconds = unbroken
    root = make_project(tmp_path / "project")
    process = start(root, *BUILD)
    time.sleep(random.Random(moment).uniform(0.05, 1.0) * seconds)
    stop(process, root, signal.SIGKILL)
    ran(root, *BUILD)
    assert written(root) == right and pages(root) == right_pages
    assert not partial(root)
    assert "1 reused" in ran(root, *BUILD)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_build_told_to_stop(unbroken, tmp_path, number, share):
    root = make_project(tmp_path / "project")
    process = start(root, *BUILD)
    time.sleep(share * unbroken[2])
    stop(process, root, number)
    assert not partial(root)


@pytest.mark.slow
def test_two_builds_at_once_give_one_result(unbroken, tmp_path):
    root = make_project(tmp_path / "project")
    for process in [start(root, *BUILD) for _ in range(2)]:
        ended(process)
    assert written(root) == unbroken[0] and pages(root) == unbroken[1] and not partial(root)
    assert "Pages reused" in ran(root, *BUILD)


@pytest.mark.slow
@pytest.mark.parametrize("wrong, word", [("1 / 0", "ZeroDivisionError"), ("def (", "SyntaxError"),
                                         ("%%bash\nexit 3", "CalledProcessError"), ("import os; os._exit(9)", "died")])
def test_one_broken_notebook_does_not_stop_the_book(tmp_path, wrong, word):
    root = make_project(tmp_path / "project")
    file = root / "notebooks/part/broken.ipynb"
    notebook = json.loads((root / "notebooks" / NAME).read_text().replace("toy-", "broken-"))
    notebook["cells"] = [*notebook["cells"][:3], code(wrong, 0), *notebook["cells"][4:]]
    file.write_text(json.dumps(notebook))
    register = root / "book/elements.yml"
    register.write_text(register.read_text() + "- id: broken\n  title: One that breaks\n  section: both\n"
                        "  notebook: part/broken.ipynb\n  source: {paper: ours}\n")
    told = ran(root, *BUILD, code=1)
    assert word in told and "broken.ipynb" in told
    html = root / "build/site/html"
    assert "toy-line" in (html / "notebooks/part/toy.html").read_text()
    page = (html / "notebooks/part/broken.html").read_text()
    assert "failed" in page and word in page
