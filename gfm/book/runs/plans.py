"""Runs of notebooks by profile: which are current, why others are not, and running the latter.

Next to each executed notebook (``build/<profile>/run/...ipynb``) is a JSON file with digests of everything it
depends on: the notebook's text, its parameters, the modules of the package it uses, its register entry.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gfm.book.paths import build_folder
from gfm.book.register import Register
from gfm.book.runs.execute import environment
from gfm.book.runs.handover import Handover
from gfm.book.runs.notebooks import Notebook, profile_parameters, source_of
from gfm.book.verdicts import load, verdict_file
from gfm.errors import UnreadableFileError
from gfm.files import write_text
from gfm.store import source

__all__ = ["Outcome", "Plan", "executed", "plan", "run_all"]

_CHANGED = {"text": "the notebook has changed", "parameters": "its parameters have changed",
            "register": "its entry in the register has changed"}


@dataclass(frozen=True)
class Plan:
    """One notebook under one profile: parameters, target, and why it must run ('' if it is current)."""

    notebook: Notebook
    profile: str
    parameters: dict[str, Any]
    target: Path
    fingerprint: dict[str, Any]
    why: str
    only_stored: bool = False  # compute nothing

    @property
    def handover(self) -> Handover:
        """The instructions for the notebook's kernel."""
        return Handover(self.only_stored, str(self.target.with_suffix(".progress")))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a plan: the seconds it took, and the error message if it failed."""

    plan: Plan
    seconds: float
    error: str = ""


def executed(root: Path, profile: str, name: str) -> Path:
    """The path of a notebook as executed under a profile."""
    return build_folder(root) / profile / "run" / name


def plan(register: Register, name: str | Path, profile: str, overrides: Sequence[tuple[str, str]] = ()) -> Plan:
    """Plan the run of a notebook, and find out whether its last run is still current.

    With overrides the profile becomes ``custom``, so that the run never appears on the status page.

    Raises:
        UnknownNameError: The profile, a parameter or a name is unknown.
        InputError: A parameter cannot have the value given.
        UnreadableFileError: The notebook is missing or broken.
    """
    notebook = Notebook(register.root, name)
    parameters = profile_parameters(register.root, notebook, profile)
    if overrides:
        parameters |= notebook.convert(overrides)
        profile = parameters["profile"] = "custom"
    target = executed(register.root, profile, notebook.name)
    now = _fingerprint(register, notebook, parameters)
    return Plan(notebook, profile, parameters, target, now, _why(register, notebook.name, now, target, profile))


def run_all(plans: Sequence[Plan], jobs: int = 2, title: str = "Running") -> list[Outcome]:
    """Run plans in parallel, each in its own process; on a terminal, a progress bar shows how far each one is."""
    with ThreadPoolExecutor(max(1, jobs)) as pool, \
            tqdm(total=len(plans), unit="notebook", desc=title, dynamic_ncols=True, disable=None) as bar:
        runs = {pool.submit(_run, item): item for item in plans}
        left = set(runs)
        while left:
            busy = [item for run, item in runs.items() if run.running()]
            bar.set_postfix_str(", ".join(item.notebook.stem + item.handover.percent() for item in busy))
            ended, left = wait(left, timeout=1.0, return_when=FIRST_COMPLETED)
            for outcome in (run.result() for run in ended):
                word = f"FAILED ({outcome.error})" if outcome.error else f"{outcome.seconds:.0f} s"
                bar.write(f"  {outcome.plan.notebook.name}: {word}")
                bar.update()
    return [run.result() for run in runs]


def _run(item: Plan) -> Outcome:
    item.target.parent.mkdir(parents=True, exist_ok=True)
    record = item.target.with_suffix(".run.json")
    record.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gfm.book.runs.execute", str(item.notebook.path), str(item.target)]
    start = time.perf_counter()
    env = environment() | item.handover.environment()
    run = subprocess.run(command, input=json.dumps(item.parameters), env=env, text=True,
                         capture_output=True, cwd=item.notebook.path.parent)
    Path(item.handover.progress_file).unlink(missing_ok=True)
    seconds = round(time.perf_counter() - start, 1)
    item.target.with_suffix(".log").write_text(run.stderr, encoding="utf-8")
    if run.returncode:
        lines = [line for line in run.stderr.strip().splitlines() if line.strip()]
        return Outcome(item, seconds, lines[-1] if lines else "it ended without a message")
    known = {**item.fingerprint, "seconds": seconds}
    write_text(record, json.dumps(known, indent=1) + "\n")
    return Outcome(item, seconds)


def _fingerprint(register: Register, notebook: Notebook, parameters: dict[str, Any]) -> dict[str, Any]:
    cells = [[c["cell_type"], source_of(c), c.get("metadata", {}).get("tags", [])] for c in notebook.cells]
    entries = [repr(e) for e in register.shown_in(notebook.name)]
    used = source.imports_of(notebook.code()) or {"gfm.store"}
    return {"text": _sha(cells), "parameters": json.loads(json.dumps(parameters)), "register": _sha(entries),
            "modules": source.module_digests(used, drawing=True)}


def _why(register: Register, name: str, now: dict[str, Any], target: Path, profile: str) -> str:
    try:
        then = json.loads(target.with_suffix(".run.json").read_text(encoding="utf-8"))
        known = target.is_file() and set(now) <= set(then)
    except (OSError, ValueError, TypeError):
        known = False
    if not known:
        return "it has not been run"
    try:
        json.loads(target.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, TypeError, KeyError):
        return "its executed notebook cannot be read"
    for part, why in _CHANGED.items():
        if then[part] != now[part]:
            return why
    changed = sorted(m for m in set(then["modules"]) | set(now["modules"])
                     if then["modules"].get(m) != now["modules"].get(m))
    if changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        return f"the source of {', '.join(changed[:2])}{more} has changed"
    for entry in (e for e in register.shown_in(name) if e.claims):
        if not verdict_file(register.root, profile, entry.id).is_file():
            return f"the verdicts of {entry.id} are missing"
        try:
            load(register, entry, profile)
        except UnreadableFileError:
            return f"the verdicts of {entry.id} cannot be read"
    return ""


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
