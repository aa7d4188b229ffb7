"""The list of cells of a profile, found by reading the notebooks, and the computation of one."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gfm.book import Register
from gfm.book.cells import asked, cell, cells
from gfm.book.costs import estimates
from gfm.book.runs.notebooks import Notebook
from gfm.book.verdicts import load
from gfm.cli import app
from gfm.errors import InputError, UnknownNameError, UnreadableFileError
from gfm.experiments.central.flow_run import FlowRun
from gfm.store import key_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def register():
    return Register.load(ROOT)


@pytest.fixture(scope="module")
def listed(register):
    return {name: asked(Notebook(ROOT, name), {}) for name in register.notebooks()}


def test_a_notebook_asks_for_no_cell_that_the_list_lacks_nor_the_list_for_others(register, listed, smoke_outputs):
    """What the notebooks obtained when they were run, against what reading them finds."""
    used = {}
    for entry in register:
        if entry.notebook and entry.claims:
            results = load(register, entry, "smoke").meta["results"]
            used.setdefault(entry.notebook, set()).update(identity(r["key"]) for r in results)
    found = {name: {identity(key_of(experiment)) for experiment in experiments} for name, experiments in listed.items()}
    assert {name: found[name] for name in used} == used


def test_a_cell_of_several_notebooks_is_listed_once(register, listed):
    names = ["both/noise.ipynb", "both/sign-descent.ipynb", "both/noise.ipynb"]
    found = cells(register, "smoke", names)
    assert [c.experiment for c in found] == [*listed[names[0]], *listed[names[1]]]
    assert len({c.key for c in found}) == len(found)


def identity(key):
    """What is computed, without the source: results that are kept may come from an earlier one."""
    return key.partition("-")[0]


def notebook(tmp_path, *code):
    parts = ["profile = 'smoke'\nn = 2", "from gfm import book\nfrom gfm.experiments.both.filters import FilterRuns\n"
             "element = book.Element('filters', profile=profile)", *code]
    cells = [{"cell_type": "code", "source": text, "metadata": {"tags": ["parameters"] * (k == 0)}, "outputs": [],
              "execution_count": None} for k, text in enumerate(parts)]
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "elements.yml", tmp_path / "book")
    (folder / "own.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return Notebook(tmp_path, "own")


def test_what_a_notebook_imports_stays_imported(tmp_path, monkeypatch):
    """Parts of torch cannot be imported twice in one process."""
    (tmp_path / "imported_once.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked(notebook(tmp_path, "import imported_once\nelement.obtain(FilterRuns('valley', steps=n))"), {})
    assert sys.modules.pop("imported_once") and "notebook" not in sys.modules


def test_what_needs_a_result_is_left_out_and_what_follows_is_read(tmp_path):
    own = notebook(tmp_path, "a = element.obtain(FilterRuns('network', steps=n)); top = a.arrays['x'].max()",
                   "many = [element.obtain(FilterRuns('network', steps=k)) for k in (5, 6)]\nelement.say(f'{top:.2f}')",
                   "if top > 2:\n    element.obtain(FilterRuns('network', steps=9))")
    assert [e.steps for e in asked(own, {})] == [2, 5, 6]
    assert [e.steps for e in asked(own, {"n": 4})] == [4, 5, 6]


def test_a_cell_that_depends_on_another_ones_result_is_listed_without_a_key(tmp_path):
    own = notebook(tmp_path, "a = element.obtain(FilterRuns('network', steps=n))",
                   "from test_costs import Long\nb = element.obtain(Long(steps=a.info['best']))")
    first, second = cells(Register.load(tmp_path), "smoke", [own.name])
    assert first.key and first.parameters["steps"] == 2
    assert (second.key, second.parameters) == ("", {}) and second.stored[1] == "it depends on another cell's result"
    assert estimates([second]) == [None]


def test_a_notebook_that_fails_before_it_asks_is_refused(tmp_path):
    with pytest.raises(InputError, match="own.ipynb cannot be read: NameError"):
        asked(notebook(tmp_path, "element.obtain(nothing)"), {})


def test_listing_leaves_no_trace(register, monkeypatch, tmp_path):
    monkeypatch.setenv("GFM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GFM_BUILD", str(tmp_path / "build"))
    found = cells(register, "smoke", ["both/noise.ipynb"])
    assert found and all(c.stored == (False, "no stored result", None, None) for c in found)
    assert not list(tmp_path.iterdir())


def test_a_profile_that_a_notebook_lacks(register):
    with pytest.raises(UnknownNameError, match="has no profile"):
        cells(register, "paper", ["both/rival-flows.ipynb"])
    with pytest.raises(UnknownNameError):
        cells(register, "quick")


def test_where_the_data_are_missing_the_list_says_so(register, monkeypatch):
    def missing(_):
        raise UnreadableFileError("CIFAR-10 is not here.")

    monkeypatch.setattr(FlowRun, "data_fingerprint", missing)
    found = cells(register, "paper", ["central-flows/gd-predictions.ipynb"])
    assert found and all(c.key == "" and c.stored == (False, "CIFAR-10 is not here.", None, None) for c in found)


@pytest.mark.parametrize("key", ["", "nothing"])
def test_no_cell_has_such_a_key(register, key):
    with pytest.raises(UnknownNameError, match="No cells"):
        cell(register, key, "smoke", ["both/noise.ipynb"])


def test_one_cell_is_computed_from_the_command_line_and_then_listed_as_stored(register, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GFM_STORE", str(tmp_path / "store"))
    name, run = "both/sign-descent.ipynb", CliRunner().invoke
    before = json.loads(run(app, ["cells", name, "--profile", "smoke", "--json"]).output)
    assert [c["stored"] for c in before] == [False]
    key = before[0]["key"]
    made = run(app, ["cell", key[:10], name, "--profile", "smoke"])
    assert made.exit_code == 0 and f"{key}: computed" in made.output
    after = run(app, ["cells", name, "--profile", "smoke"])
    assert key[:12] in after.output and "1 cell, 1 stored." in after.output
    again = run(app, ["cell", key, name, "--profile", "smoke"])
    assert again.exit_code == 0 and "stored result, same parameters" in again.output
