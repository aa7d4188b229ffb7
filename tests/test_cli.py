"""The command line as a user meets it: exit codes, one clear sentence, nothing written in error."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from commands import Ended, gfm

from gfm import Trajectories, cli
from gfm.book import reports

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cli") / "project"
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("results", "symbols.md"))
    shutil.copytree(ROOT / "tests" / "book" / "toy", root, dirs_exist_ok=True)
    return root


def test_the_command_is_installed():
    """It starts, and an error ends it with code 2, in a process of its own."""
    command = [sys.executable, "-m", "gfm.cli"]
    assert "status" in subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=300).stdout
    wrong = subprocess.run([*command, "cite", "nothing"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2 and wrong.stderr.startswith("gfm: ")


@pytest.mark.parametrize("arguments, word", [
    (["run", "toy", "-p", "stepz", "3"], "no parameter 'stepz'"),
    (["run", "toy", "-p", "steps", "many"], "must be a whole number"),
    (["run", "toy", "-p", "steps"], "a name and a value"),
    (["run", "toy", "--profile", "huge"], "Unknown profile 'huge'"),
    (["run", "nothing"], "no notebook 'nothing'"),
    (["run", "../outside.ipynb"], "no notebook"),
    (["run", "toy", "--in-place", "-p", "steps", "3"], "--in-place"),
    (["run", "toy", "--in-place", "--stored"], "no --stored"),
    (["build", "--profile", "huge"], "Unknown profile"),
    (["check", "--profile", "huge"], "Unknown profile"),
    (["cite", "nothing"], "no notebook"),
    (["forecast", "nowhere", "out.npz", "--horizon", "3"], "nowhere"),
    (["keep", "toy"], "has not been run under paper"),
    (["data", "fetch"], "gfm data fetch NAME"),
])
def test_what_makes_no_sense_is_one_sentence_and_code_2(project, arguments, word):
    before = sorted(p for p in project.rglob("*"))
    run = gfm(project, *arguments)
    assert run.returncode == 2 and word in run.stderr and not run.stdout
    assert run.stderr.startswith("gfm: ") and run.stderr.count("\n") == 1 and "Traceback" not in run.stderr
    assert sorted(p for p in project.rglob("*")) == before


@pytest.mark.parametrize("arguments, word", [
    (["forecast", "runs.npz", "runs", "--horizon", "2"], "runs.npz"),
    (["forecast", "runs.npz", "./runs.npz", "--horizon", "2", "--train", "more.npz"], "runs.npz"),
    (["forecast", "runs.npz", "out.npz", "--horizon", "2", "--train", "more.npz", "--save-model", "more.npz"], "more"),
])
def test_a_forecast_never_writes_over_what_it_reads(tmp_path, arguments, word):
    for name in ("runs", "more"):
        Trajectories(np.cumsum(np.ones((3, 6, 4)), axis=1)).save(tmp_path / f"{name}.npz")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    run = gfm(tmp_path, *arguments)
    assert run.returncode == 2 and word in run.stderr and "name another file" in run.stderr
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("happens, code, told", [
    (lambda: os.kill(os.getpid(), signal.SIGTERM), 143, ""),
    (mock.Mock(side_effect=KeyboardInterrupt), 130, ""),
    (lambda: open("/nowhere/file"), 2, "gfm: The system refused: No such file or directory (/nowhere/file).\n"),
], ids=["terminated", "interrupted", "refused"])
def test_how_a_command_ends_that_cannot_go_on(project, monkeypatch, happens, code, told):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(reports, "status", happens)
    run = gfm(project, "status")
    assert (run.returncode, run.stdout, run.stderr) == (code, "", told)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_terminal_that_knows_only_ascii_gets_question_marks(project, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(reports, "status", lambda: print("1.5·10⁻⁷", file=screen))
    with mock.patch.object(sys, "argv", ["gfm", "status"]), contextlib.chdir(project), \
            contextlib.redirect_stdout(screen), pytest.raises(SystemExit) as end:
        cli.main()
    screen.flush()
    assert not end.value.code and screen.buffer.getvalue() == b"1.5?10??\n"


def test_outside_a_project(tmp_path):
    run = gfm(tmp_path, "status")
    assert run.returncode == 2 and "book/elements.yml" in run.stderr


def test_unknown_commands_and_options_are_code_2(project):
    assert gfm(project, "rum").returncode == gfm(project, "run", "toy", "--fast").returncode == 2


@pytest.mark.no_cover
def test_a_run_with_other_parameters_counts_for_nothing(project):
    """The README's way: run one notebook, change a parameter, hold its claims against the bounds."""
    assert "0 claims hold" in gfm(project, "check").stdout
    custom = gfm(project, "run", "toy", "-p", "steps", "12", "-p", "tau=3")
    assert custom.returncode == 0
    assert "steps = 12" in custom.stdout and "tau = 3.0" in custom.stdout
    assert (project / "build/custom-smoke/run/part/toy.ipynb").is_file()
    assert "not run" in gfm(project, "status").stdout


@pytest.fixture(scope="module")
def plain(project) -> Ended:
    """A run under smoke."""
    return gfm(project, "run", "notebooks/part/toy.ipynb")


def test_a_run_then_check_and_status(project, plain):
    assert plain.returncode == 0 and "holds in shape only" in plain.stdout
    checked = gfm(project, "check")
    assert checked.returncode == 1
    for words in ("1 claims hold; 2 fall short; 1 have not been run", "T3", "at most −1", "toy T4"):
        assert words in checked.stdout, words
    assert "smoke" in gfm(project, "status").stdout
    assert "0 claims hold" in gfm(project, "check", "--profile", "paper").stdout


def test_a_changed_bound_is_seen_by_check(project, plain):
    register = project / "book" / "elements.yml"
    text = register.read_text()
    register.write_text(text.replace("at_most: 1.0e-6", "at_most: -5"))
    try:
        run = gfm(project, "check")
        assert run.returncode == 1 and "register has changed" in run.stdout and "T1" in run.stdout
    finally:
        register.write_text(text)


def test_cite_prints_bibtex(project):
    whole = gfm(project, "cite")
    assert whole.returncode == 0
    assert whole.stdout.count("@") >= 3 and "Central Flows" in whole.stdout
    one = gfm(project, "cite", "toy")
    assert one.returncode == 0 and "gfmbook" in one.stdout


def test_help_names_every_command(project):
    text = gfm(project, "--help").stdout
    for name in ("run", "build", "check", "status", "data", "forecast", "new", "keep", "cite"):
        assert name in text
