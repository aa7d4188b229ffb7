"""What crosses from a build to a notebook's kernel, and what its outputs say of themselves."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from gfm import book, store
from gfm.book.outputs import Caption, Figure, Output, Prose, Table, Verdicts
from gfm.book.runs.handover import Handover
from gfm.errors import NotStoredError
from gfm.experiments.central.valley import ValleyRun

ROOT = Path(__file__).parents[2]
QUICK = ValleyRun(steps=2, substeps=1)


def test_a_handover_crosses_by_one_variable(monkeypatch):
    assert Handover.received() == Handover()
    sent = Handover(only_stored=True, progress_file="here.progress")
    ((name, value),) = sent.environment().items()
    monkeypatch.setenv(name, value)
    assert Handover.received() == sent


def test_progress_is_read_where_it_was_written(tmp_path):
    handover = Handover(progress_file=str(tmp_path / "p"))
    assert handover.percent() == "" and Handover().reporter() is None
    report = handover.reporter()
    report(1, 4)
    report(2, 4)  # too soon after the first to be written
    assert handover.percent() == " 25 %"


def test_progress_is_written_twice_a_second_at_most(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    handover = Handover(progress_file=str(tmp_path / "p"))
    report = handover.reporter()
    shown = []
    for now[0], done, total in ((100.0, 1, 4), (100.4, 2, 4), (100.6, 3, 4), (102.0, 0, 0)):
        report(done, total)
        shown.append(handover.percent())
    assert shown == [" 25 %", " 25 %", " 75 %", " 0 %"]


def test_an_element_records_what_it_obtains_and_nobody_else_s(project, monkeypatch):
    one, other = book.Element("toy"), book.Element("toy", profile="book")
    one.obtain(QUICK)
    store.obtain(QUICK)
    values = dict.fromkeys(("T1", "T2", "T3", "T4"))
    one.judge(**values), other.judge(**values)
    found = [json.loads((project / f"build/{p}/verdicts/toy.json").read_text())["results"] for p in ("smoke", "book")]
    assert [r["experiment"] for r in found[0]] == [QUICK.name] and found[1] == []
    monkeypatch.setenv(*Handover(only_stored=True).environment().popitem())
    strict = book.Element("toy")
    assert strict.obtain(QUICK).provenance["reused"]
    with pytest.raises(NotStoredError):
        strict.obtain(ValleyRun(steps=3, substeps=1))


@pytest.mark.parametrize("output", [
    Figure(name="f", alt="a", caption="c", element="e", tolerance=0.1, varies={"x": "time"}, data={"x": {"mean": 1.0}}),
    Table(name="t", caption="c", element="e", tolerance=0.1),
    Caption(name="t", tolerance=0.1),
    Prose(tolerance=0.1, varies="time"),
    Verdicts(element="e", tolerance={"A": 0.1}, varies={}),
])
def test_an_output_is_read_as_it_was_written(output):
    written = json.loads(json.dumps(output.metadata()))
    assert Output.read({"metadata": written}) == output
    assert set(written["gfm"]) == {"kind"} | {k for k, v in asdict(output).items() if v is not None}


def test_every_committed_output_is_read_whole():
    files = [*(ROOT / "notebooks").rglob("*.ipynb"), *(ROOT / "book" / "results").glob("*/run/**/*.ipynb")]
    flags = [o for f in files for c in json.loads(f.read_text())["cells"] for o in c.get("outputs", ())
             if "gfm" in o.get("metadata", {})]
    assert len(flags) > 200
    for output in flags:
        assert Output.read(output).metadata() == output["metadata"]
    assert Output.read({"output_type": "stream"}) is None


def test_every_notebook_obtains_through_its_element():
    for file in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(file.read_text())["cells"]
        code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        assert "store.obtain(" not in code and "import obtain" not in code, file.name
