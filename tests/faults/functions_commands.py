"""Valid and bad command lines; none may start a kernel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from bad_calls import Function
from commands import gfm as command

import gfm
from gfm.errors import InputError

ROOT = Path(__file__).parents[2]
LONG = "a" * 5000


def project(folder: Path) -> Path:
    """The toy project of the book's tests."""
    if not folder.exists():
        leave = shutil.ignore_patterns("results", "symbols.md", "assets")
        shutil.copytree(ROOT / "book", folder / "book", ignore=leave)
        shutil.copytree(ROOT / "tests" / "book" / "toy", folder, dirs_exist_ok=True)
    return folder


class KernelStarted(Exception):
    """The command went so far as to run a notebook."""


def _kernel(*_: Any, **__: Any) -> None:
    raise KernelStarted


def said(code: int, out: str, err: str) -> None:
    """Raise what a command said: an error of the package if it ended as a refused command must."""
    lines = err.strip().splitlines()
    if code == 2 and not out and lines and lines[0].startswith("Usage:"):  # by the parser of the command line
        raise InputError(" ".join(lines[2:]))
    if code == 2 and not out and len(lines) == 1 and err.startswith("gfm: "):
        raise InputError(err[5:].strip())
    if code:
        raise RuntimeError(f"exit code {code}: {out[-200:]} {err[-500:]}")


def cli(folder: Path, words: list[str], **environment: str) -> None:
    """A command in this process, which must not start a kernel; an error of the package if it is refused."""
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch("gfm.book.runs.plans.run_all", _kernel),
        mock.patch("gfm.book.building.run_all", _kernel),
    ):
        said(*command(folder, *words))


#: What may be typed in place of a whole number, a number, a name, a path.
COUNTS = ["0", "-1", "3.5", "1e3", "nan", "inf", "", "three", "0x10", "½", "1 000", "1e15", "9" * 5000, "None", "[]"]
NUMBERS = ["nan", "inf", "-inf", "", "three", "1e999", "½", "1,5", "None", "1j", "[1.0]"]
NAMES = ["", " ", "nothing", "../outside", "/etc/passwd", LONG, "**", "[", "a\0b", "ünï", ".", "-1", "NaN", "\ud800"]
PATHS = ["", " ", LONG, "a\0b", "nowhere", "/nowhere/x", "book/elements.yml", "book", "."]


def _shown(words: list[str]) -> str:
    return " ".join(f"{Path(word).name or word:.20}" for word in words).encode("ascii", "backslashreplace").decode()


def commands(root: Path) -> list[Function]:
    here = root.parent
    PREFIX, LONGER = gfm.Trajectories(np.ones((2, 5, 3)).cumsum(1)), gfm.Trajectories(np.ones((2, 9, 3)).cumsum(1))
    PREFIX.save(here / "short.npz")
    LONGER.save(here / "longer.npz")
    made = here / "made.npz"

    def function(command: str, valid: list[str], /, **bad: list[list[str]]) -> Function:
        return Function(
            f"gfm {command}".strip(),
            lambda words: cli(root, words),
            {"words": valid},
            {"words": {_shown(words): words for lists in bad.values() for words in lists}},
        )

    def run(name: str, texts: list[str]) -> list[list[str]]:
        return [["run", "toy", "-p", name, text] for text in texts]

    toy = ["data", "list"]
    forecast = ["forecast", str(here / "short.npz"), str(made), "--horizon", "3", "--method", "linear-ends"]

    def other(place: int, texts: list[str]) -> list[list[str]]:
        return [[*forecast[:place], text, *forecast[place + 1 :]] for text in texts]

    return [
        function(
            "run",
            toy,
            notebook=[["run", name] for name in NAMES],
            steps=run("steps", COUNTS),
            tau=run("tau", NUMBERS),
            steep=run("steep", ["", "1", "0", "yes", "None", "2"]),
            shape=run(
                "shape", ["3", "a", "[a]", "[nan]", "{", "[", "{a: 1}", "[[1]]", "[true]", "null", "'", "&a [*a]"]
            ),
            name=[["run", "toy", "-p", name, "3"] for name in NAMES] + run("profile", ["book"]),
            profile=[["run", "toy", "--profile", name] for name in NAMES],
            device=[["run", "toy", "--device", name] for name in ["", "gpu", "cuda:99", "meta", LONG, "3", "mps"]][1:],
            form=[
                ["run"],
                ["run", "toy", "toy"],
                ["run", "toy", "-p"],
                ["run", "toy", "-p", "steps"],
                ["run", "toy", "--fast"],
                ["run", "toy", "-p", "=3"],
                ["run", "toy", "--in-place", "--profile", "book"],
                ["run", "toy", "--in-place", "-p", "steps", "3"],
            ],
        ),
        function(
            "build",
            toy,
            profile=[["build", "--profile", name] for name in NAMES],
            jobs=[["build", "--jobs", text] for text in COUNTS],
            device=[["build", "--device", "gpu"]],
            form=[["build", "toy"], ["build", "--quick"]],
        ),
        function(
            "publish", toy, folder=[["publish", text] for text in PATHS], form=[["publish"], ["publish", "a", "b"]]
        ),
        function("pdf", toy, form=[["pdf"], ["pdf", "a"]]),
        function(
            "cells",
            ["cells", "toy"],
            notebook=[["cells", name] for name in NAMES if name],
            profile=[["cells", "toy", "--profile", name] for name in NAMES],
            element=[["cells", "--element", name] for name in NAMES],
        ),
        function(
            "cell",
            toy,
            key=[["cell", name] for name in NAMES],
            notebook=[["cell", "a", name] for name in NAMES],
            profile=[["cell", "a", "--profile", name] for name in NAMES],
            form=[["cell"], ["cell", "a", "--device", "gpu"]],
        ),
        function("check", toy, profile=[["check", "--profile", name] for name in NAMES], form=[["check", "toy"]]),
        function("status", ["status"], form=[["status", "toy"], ["status", "--profile", "smoke"]]),
        function(
            "data",
            toy,
            action=[["data", name] for name in NAMES],
            name=[["data", "fetch", name] for name in NAMES],
            form=[["data", "list", "moons"], ["data", "fetch"], ["data", "fetch", "moons", "x"]],
        ),
        function(
            "forecast",
            forecast,
            observed=other(1, PATHS),
            output=other(
                2, ["", LONG, "a\0b", "/proc/x.npz", ".", "book", str(here / "short.npz"), str(here / "short")]
            ),
            horizon=other(4, COUNTS),
            method=other(6, NAMES),
            train=[[*forecast, "--train", text] for text in PATHS],
            model=[[*forecast[:5], "--model", text] for text in PATHS],
            as_=[[*forecast, "--as", name] for name in ["", "text", "npz"]],
            resample=[[*forecast, "--resample", text] for text in COUNTS],
            weights=[[*forecast, "--train", str(here / "longer.npz"), "--max-weights", text] for text in COUNTS],
            pattern=[[*forecast, "--pattern", "*"], [*forecast, "--step", "("], [*forecast, "--key", "a"]],
            device=[
                [*forecast, "--train", str(here / "longer.npz"), "--device", text]
                for text in ("gpu", "cuda:99", "meta")
            ],
            save=[
                [*forecast, "--train", str(here / "longer.npz"), "--save-model", text]
                for text in ["", LONG, "/proc/x.npz", "."]
            ],
            form=[["forecast"], forecast[:3], [*forecast, "--save-model", "x.npz"]],
        ),
        function(
            "new",
            toy,
            name=[
                ["new", name]
                for name in [*NAMES[3:], "", " ", "toy", "Large", "a_b", "a b", "a/b", "-", "a--", "con.txt"]
            ],
            section=[["new", "fresh", "--section", name] for name in NAMES],
            title=[["new", "fresh", "--title", text] for text in ["a\0b"]],
        ),
        function(
            "keep",
            toy,
            notebook=[["keep", name] for name in NAMES],
            profile=[["keep", "toy", "--profile", name] for name in [*NAMES, "smoke"]],
        ),
        function("cite", ["cite", "toy"], notebook=[["cite", name] for name in NAMES]),
        function("", toy, command=[["rum"], ["--fast"], ["run toy"], ["\ud800"], [""], ["ünï"]]),
    ]


def really(root: Path, words: list[str], environment: dict[str, str]) -> None:
    """A command in a process of its own."""
    env = {k: v for k, v in os.environ.items() if k not in ("GFM_BUILD", "GFM_STORE")} | environment
    run = subprocess.run(
        [sys.executable, "-m", "gfm.cli", *words], cwd=root, env=env, capture_output=True, text=True, timeout=60
    )
    said(run.returncode, run.stdout, run.stderr)


def processes(root: Path) -> list[Function]:
    """Some in a process of their own, as a user starts them."""
    lines = [["run", "nothing"], ["run", "toy", "-p", "steps", "3.5"], ["build", "--jobs", "0"], ["cite", "ünï"]]
    return [
        Function(
            "gfm, a process",
            lambda words: really(root, words, {}),
            {"words": ["--help"]},
            {"words": {_shown(words): words for words in lines}},
        )
    ]


def functions() -> list[Function]:
    root = project(Path.cwd() / "project")
    return [*commands(root), *processes(root)]
