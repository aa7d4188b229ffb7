"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the project: what they say runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import gfm

from gfm.book import verdicts
from gfm.book.register import Register
from gfm.book.runs.notebooks import Notebook, profile_parameters, source_of
from gfm.book.site.contents import table_of_contents
from gfm.book.site.guards import what_a_run_lacks

ROOT = Path(__file__).parent.parent
RECIPES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Recipes")[2].partition("\n## ")[0]


def blocks(heading: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code below ``### heading``."""
    part = re.split(r"(?m)^### ", RECIPES.partition(f"### {heading}\n")[2])[0]
    return re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", part)


def changes(diff: str) -> list[tuple[str, str, str]]:
    """File, old lines and new lines of each part of a block ``diff``; parts begin with ``--- file`` or ``@@``."""
    found = []
    for part in re.split(r"(?m)^(?=--- )", diff)[1:]:
        file, _, text = part.removeprefix("--- ").partition("\n")
        for piece in re.split(r"(?m)^@@\n", text):
            lines = piece.splitlines()
            old, new = ("".join(line[1:] + "\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
            found.append((file, old, new))
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project in which every recipe has been followed, but for its commands."""
    root = tmp_path_factory.mktemp("recipes") / "project"
    leave = shutil.ignore_patterns(".*", "build", "results", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, root, ignore=leave)
    for heading in re.findall(r"(?m)^### (.+)$", RECIPES):
        for language, text in blocks(heading):
            if language == "python":
                file = root / text.partition("\n")[0].removeprefix("# ")
                assert not file.exists()
                file.write_text(text.partition("\n")[2], encoding="utf-8")
            for name, old, new in changes(text) if language == "diff" else ():
                before = (root / name).read_text(encoding="utf-8")
                assert before.count(old) == 1, f"CONTRIBUTING.md changes lines that {name} does not have:\n{old}"
                (root / name).write_text(before.replace(old, new), encoding="utf-8")
    return root


def python(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(project), "GFM_BUILD": str(project / "build"),
           "GFM_STORE": str(project / "build" / "store")}
    done = subprocess.run([sys.executable, *words], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.parametrize(("heading", "most"), [
    ("An optimizer", 3), ("A recorded optimizer", 1), ("A network", 2), ("A forecaster", 2),
])
def test_a_recipe_touches_few_places(heading, most):
    touched = {name for language, text in blocks(heading) if language == "diff" for name, _, _ in changes(text)}
    new = sum(language == "python" for language, _ in blocks(heading))
    assert 1 <= new + len(touched) <= most


USED = """
import gfm
import numpy as np, torch
from gfm import nets, optimizers
from gfm.data import digits
from gfm.experiments.central.flow_run import FlowRun
from gfm.store.experiment import Context
assert gfm.__file__.startswith({root!r}), gfm.__file__

run = FlowRun(optimizer="adamw", net="bottleneck", size="tiny", n=24, classes=4, targets="one_hot", lr=0.02, steps=8,
              dtype="float64")
assert type(run.rule()).__name__ == "AdamW" and "adamw" in optimizers.available()
arrays = run.compute(Context()).arrays
assert any(name.endswith("sigma") for name in arrays)
losses = next(array for name, array in arrays.items() if name.endswith("discrete/loss"))
assert losses[-1] < losses[0], losses

data = digits(24, 4)
recorded = gfm.trajectories.record(
    lambda: nets.build("bottleneck", data, size="tiny"), data.inputs, data.targets, torch.nn.functional.cross_entropy,
    optimizer="nesterov", lr=0.1, runs=3, steps=20)
assert recorded.meta["optimizer"] == "nesterov"
model = gfm.forecasters.available()["median-step"](observed=5).fit(recorded)
assert model.forecast(recorded.prefix(5), 4).shape == (3, 4, recorded.parameters)
"""


def test_the_new_parts_are_used(project):
    """The optimizer and its flows train the network, runs of it are recorded, and the forecaster continues them."""
    python(project, "-c", USED.format(root=str(project)))


def test_the_projects_own_tests_and_lint_take_the_new_parts(project):
    python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/optimizers", "tests/nets/test_networks.py",
           "tests/forecasters/test_every_forecaster.py", "-k", "adamw or AdamW or bottleneck or median")
    python(project, "-m", "ruff", "check", "--no-cache", "gfm", "tests/optimizers")


def test_a_new_element_runs_and_becomes_a_page(project, monkeypatch):
    ((language, commands),) = blocks("An element")
    assert language == "sh"
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "gfm"
        python(project, "-m", "gfm.cli", *words)
    monkeypatch.setenv("GFM_BUILD", str(project / "build"))
    register = Register.load(project)
    entry = register["median-page"]
    notebook = Notebook(project, entry.notebook)
    assert entry.section == "both" and entry.title == "A page of its own"
    assert "# A page of its own" in source_of(notebook.cells[0])
    assert profile_parameters(project, notebook, "book")["profile"] == "book"
    assert not what_a_run_lacks(register, entry.notebook, "smoke", notebook.path)
    (verdict,) = verdicts.load(register, entry, "smoke").verdicts
    assert verdict.verdict == "holds", verdict
    page = f"notebooks/{entry.notebook.removesuffix('.ipynb')}"
    assert page in str(table_of_contents(register, {entry.notebook}, set()))


@pytest.mark.parametrize(("words", "why"), [
    (["gd-valley"], "already"), (["Big_Name"], "small letters"), (["a-page", "--section", "none"], "Unknown section"),
    (["true"], "YAML"), (["a" * 61], "at most 60"),
])
def test_what_cannot_be_new_changes_nothing(project, words, why):
    before = {path: path.read_bytes() for path in sorted(project.rglob("*.yml"))}
    done = gfm(project, "new", *words)
    assert done.returncode == 2 and why in done.stderr and done.stderr.count("\n") == 1
    assert before == {path: path.read_bytes() for path in sorted(project.rglob("*.yml"))}
