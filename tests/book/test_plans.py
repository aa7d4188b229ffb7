"""Runs: byte-stable outputs, reuse with a reason, failures that stay theirs."""

import json
import shutil
import subprocess
import sys
import threading

import pytest
from filelock import FileLock
from sealed import rewritten

from gfm.book.building import bring_up_to_date
from gfm.book.register import Register
from gfm.book.runs import execute, plans, records
from gfm.book.runs.plans import plan, run_all

NAME = "part/toy.ipynb"


def quiet(root, profile="book"):
    return bring_up_to_date(Register.load(root), profile)


@pytest.fixture
def copy(ran, project):
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    return project


def test_a_run_carries_its_parameters_and_no_times(ran):
    text = (ran / "build/book/run" / NAME).read_text()
    notebook = json.loads(text)
    (injected,) = [c for c in notebook["cells"] if "injected-parameters" in c["metadata"].get("tags", [])]
    assert "steps = 60" in "".join(injected["source"])
    assert "papermill" not in notebook["metadata"] and '"execution"' not in text
    assert str(ran) not in text


def test_a_second_run_is_byte_identical(copy):
    target = copy / "build/book/run" / NAME
    before = target.read_bytes()
    shutil.rmtree(copy / "build" / "store")
    (outcome,) = run_all([plan(Register.load(copy), NAME, "book")])
    assert not outcome.error and target.read_bytes() == before


def test_what_is_current_is_reused(copy):
    report = quiet(copy)
    assert [p.notebook.name for p in report.reused] == [NAME] and not report.rerun


@pytest.mark.parametrize("file, old, new, why", [
    ("notebooks/part/toy.ipynb", "the last", "the final", "the notebook has changed"),
    ("notebooks/profiles.yml", "steps: 60", "steps: 61", "parameters have changed"),
    ("book/elements.yml", "at_most: 1.0e-6", "at_most: 2.0e-6", "register has changed"),
])
def test_changes_are_named(copy, file, old, new, why):
    path = copy / file
    path.write_text(path.read_text().replace(old, new))
    assert why in plan(Register.load(copy), NAME, "book").why


def test_changed_source_and_missing_outputs_are_named(copy):
    record = copy / "build/book/run/part/toy.run.json"
    known = json.loads(record.read_text())
    assert "gfm.figures.style" in known["modules"] and "gfm.central" not in known["modules"]
    rewritten(record, lambda known: known["modules"].update({"gfm.figures.style": "0"}))
    assert "gfm.figures.style" in plan(Register.load(copy), NAME, "book").why
    for file, why in (("run/part/toy.ipynb", "run/part/toy.ipynb: missing or damaged"),
                      ("verdicts/toy.json", "verdicts/toy.json: missing or damaged")):
        path = copy / "build/smoke" / file
        whole = path.read_text()
        path.write_text(whole[:100])
        assert why in plan(Register.load(copy), NAME, "smoke").why
        path.write_text(whole)
    assert not plan(Register.load(copy), NAME, "smoke").why
    (copy / "build/smoke/verdicts/toy.json").unlink()
    assert "verdicts of toy" in plan(Register.load(copy), NAME, "smoke").why
    assert plan(Register.load(copy), NAME, "paper").why == "it has not been run"


def test_a_record_names_modules_that_are_used_no_longer_and_one_of_an_older_kind_is_none(copy):
    record = copy / "build/book/run/part/toy.run.json"
    rewritten(record, lambda known: known["modules"].update({"gfm.left": "0"}))
    assert plan(Register.load(copy), NAME, "book").why == "the source of gfm.left has changed"
    rewritten(record, lambda known: known.pop("register"))
    assert plan(Register.load(copy), NAME, "book").why == "it has not been run"


def test_a_run_agrees_with_its_record_while_all_that_it_wrote_is_whole(tmp_path):
    run, figures = tmp_path / "book/run/part/toy.ipynb", tmp_path / "book/figures/toy"
    for file in (run, figures / "one.svg", figures / ".two.svg.partial"):  # the last is half written: no part of it
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("whole")
    assert not records.agrees(run, {})  # no record yet
    records.write(run, {"text": "a", "seconds": 1.0}, [])
    assert set(records.read(run)["wrote"]) == {"run/part/toy.ipynb", "figures/toy/one.svg"}
    assert records.agrees(run, {"text": "a"})
    assert not records.agrees(run, {"text": "b"}) and not records.agrees(run, {"text": "a", "parameters": {}})
    (figures / "one.svg").write_text("half")
    assert not records.agrees(run, {"text": "a"})
    assert records.damage(run) == "figures/toy/one.svg: missing or damaged since the run"
    run.unlink()
    assert records.damage(run) == "run/part/toy.ipynb and 1 more: missing or damaged since the run"


def test_what_differs_between_runs_is_taken_out_of_a_notebook():
    tags, times = ["hide-input"], {"start_time": "2026-01-01T00:00:00"}
    cells = [
        {"cell_type": "code", "metadata": {"tags": [], "papermill": times, "execution": times, "scrolled": True},
         "outputs": [{"output_type": "display_data", "execution_count": 3}, {"output_type": "stream"}]},
        {"cell_type": "code", "id": "a1b2", "metadata": {"tags": ["injected-parameters"]}},
        {"cell_type": "markdown", "id": "c3d4", "metadata": {"tags": tags, "collapsed": False}},
    ]
    found = execute.clean({"cells": cells, "metadata": {"papermill": times, "language_info": {"version": "3.12.3"}}})
    assert found["metadata"] == {"kernelspec": execute._KERNEL, "language_info": {"name": "python"}}
    assert [cell["metadata"] for cell in found["cells"]] == [{}, {"tags": ["injected-parameters"]}, {"tags": tags}]
    assert found["cells"][0]["outputs"] == [{"output_type": "display_data"}, {"output_type": "stream"}]
    assert [cell.get("id") for cell in found["cells"]] == [None, "injected-parameters", "c3d4"]


def test_overridden_parameters_never_reach_a_profile(copy):
    item = plan(Register.load(copy), NAME, "book", [("steps", "5")])
    assert item.profile == "custom-book" and item.parameters == {"profile": "custom-book", "steps": 5}
    assert item.target == copy / "build/custom-book/run" / NAME


def test_a_failing_notebook_is_named_and_leaves_no_result(project, capfd):
    notebook = project / "notebooks" / NAME
    notebook.write_text(notebook.read_text().replace("print(f", "1 / 0; print(f"))
    report = quiet(project)
    (problem,) = report.problems
    assert NAME in problem and "ZeroDivisionError" in problem
    told = capfd.readouterr()  # no terminal: what is to be run and what became of it, and no bar
    assert told.out.count("\n") == 2 and f"{NAME}: FAILED" in told.out and not told.err
    assert not (project / "build/book/run" / NAME).exists()
    assert (project / "build/book/run/part/toy.failed.ipynb").exists()
    assert plan(Register.load(project), NAME, "book").why == "it has not been run"


def interrupted(monkeypatch, item, when):
    """Run the plan, and interrupt it at an event."""

    def wait(*_, **__):
        assert when.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(plans, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        run_all([item])
    assert not item.target.exists() and not list(item.target.parent.glob("*.error"))


def test_an_interrupt_while_a_notebook_is_started_stops_it(project, monkeypatch):
    starting, told = threading.Event(), threading.Event()
    begin, stop = subprocess.Popen, plans._Running.stop

    def late(*arguments, **options):
        starting.set()
        assert told.wait(60)
        return begin(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", late)
    monkeypatch.setattr(plans._Running, "stop", lambda running: (stop(running), told.set()))
    interrupted(monkeypatch, plan(Register.load(project), NAME, "smoke"), starting)


def test_an_interrupt_ends_the_wait_for_another_build(project, monkeypatch):
    waiting, locked = threading.Event(), plans.locked
    monkeypatch.setattr(plans, "locked", lambda *given, **options: (waiting.set(), locked(*given, **options))[1])
    item = plan(Register.load(project), NAME, "smoke")
    item.target.parent.mkdir(parents=True)
    with FileLock(item.target.with_name(".toy.lock")):
        interrupted(monkeypatch, item, waiting)


@pytest.mark.parametrize(("ends", "error"), [
    ("kill -KILL $$", "it ended without a message"), ("exit 1", "it ended without a message"),
    ("echo one >&2; echo two >&2; exit 1", "two"),
])
def test_how_a_notebooks_process_ended_is_told(project, monkeypatch, ends, error):
    python = project / "python"
    python.write_text(f"#!/bin/sh\ncat >/dev/null\n{ends}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    (outcome,) = run_all([plan(Register.load(project), NAME, "book")])
    assert outcome.error == error
    assert records.failure(outcome.plan.target).read_text() == error + "\n"


def test_refreshing_in_place_is_stable(project):
    path = project / "notebooks" / NAME
    assert execute.in_place(path)
    first = path.read_bytes()
    assert b"injected" not in first and not execute.in_place(path)
    assert path.read_bytes() == first


@pytest.mark.parametrize(("failures", "message"), [(2, None), (3, "before replying"), (1, "mid-run")])
def test_a_kernel_that_did_not_come_up_is_started_again(project, monkeypatch, failures, message):
    """Two that start at once may choose the same port; one that died later is not run twice."""
    import papermill

    text = "Kernel died before replying to kernel_info" if message != "mid-run" else "Kernel died mid-run"
    calls, real = [], papermill.execute_notebook

    def execute_notebook(*arguments, **options):
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError(text)
        return real(*arguments, **options)

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    source, target = project / "notebooks/part/toy.ipynb", project / "out.ipynb"
    if message is None:
        execute.with_parameters(source, target, {})
        assert target.is_file() and len(calls) == 3
    else:
        with pytest.raises(RuntimeError, match=message):
            execute.with_parameters(source, target, {})
        assert len(calls) == min(failures, 3)


@pytest.mark.parametrize(("given", "threads", "policy"), [({}, "1", "PASSIVE"),
                                                          ({"OMP_NUM_THREADS": "2"}, "2", "PASSIVE"),
                                                          ({"OMP_WAIT_POLICY": "ACTIVE"}, "1", "ACTIVE")])
def test_threads_that_wait_give_up_their_core_unless_said_otherwise(monkeypatch, given, threads, policy):
    """With two threads in each of two notebooks on two cores, spinning took ten times longer."""
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = execute.environment()
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"], found["OMP_WAIT_POLICY"]) == (threads, threads, policy)
