"""Runs of notebooks by profile: which are current, why others are not, and running the latter.

Next to each executed notebook (``build/<profile>/run/...ipynb``) is a JSON file with digests of everything it
depends on: the notebook's text, its parameters, the modules of the package it uses, its register entry; and of all that
it wrote: itself, figures, data, verdicts (:mod:`gfm.book.runs.records`).
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gfm.book.paths import CUSTOM, build_folder
from gfm.book.register import Register
from gfm.book.runs import records
from gfm.book.runs.execute import check_loopback, environment
from gfm.book.runs.handover import Handover
from gfm.book.runs.notebooks import Notebook, profile_parameters, source_of
from gfm.book.verdicts import verdict_file
from gfm.errors import GfmError, InputError, UnreadableFileError
from gfm.files import digest_of, locked, sha, write_text
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
    verdicts: tuple[str, ...]  # the elements whose verdict files it writes
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


class _Running:
    """The processes of the notebooks that run, which are told to stop even if they start at that very moment."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def add(self, process: subprocess.Popen[str]) -> None:
        self._processes.add(process)
        if self.stopped:
            process.terminate()

    def discard(self, process: subprocess.Popen[str]) -> None:
        self._processes.discard(process)

    def stop(self) -> None:
        self.stopped = True
        for process in tuple(self._processes):
            process.terminate()


def executed(root: Path, profile: str, name: str) -> Path:
    """The path of a notebook as executed under a profile."""
    return build_folder(root) / profile / "run" / name


def plan(register: Register, name: str | Path, profile: str, overrides: Sequence[tuple[str, str]] = ()) -> Plan:
    """Plan the run of a notebook, and find out whether its last run is still current.

    With overrides the profile is ``custom-`` before its name, so that the run never appears on the status page.

    Raises:
        UnknownNameError: The profile, a parameter or a name is unknown.
        InputError: A parameter cannot have the value given.
        UnreadableFileError: The notebook is missing or broken.
    """
    notebook = Notebook(register.root, name)
    parameters = profile_parameters(register.root, notebook, profile)
    if overrides:
        parameters |= notebook.convert(overrides)
        profile = parameters["profile"] = f"{CUSTOM}{profile}"
    target = executed(register.root, profile, notebook.name)
    now = _fingerprint(register, notebook, parameters)
    judged = tuple(e.id for e in register.shown_in(notebook.name))
    why = _why(register, notebook.name, now, target, profile)
    return Plan(notebook, profile, parameters, target, now, judged, why)


def run_all(plans: Sequence[Plan], jobs: int = 2, title: str = "Running") -> list[Outcome]:
    """Run plans in parallel, each in its own process; on a terminal, a progress bar shows how far each one is.

    If this process is interrupted, the notebooks stop too.

    Raises:
        InputError: This machine cannot connect to itself, and so to no kernel.
    """
    if plans:
        check_loopback()
    running = _Running()
    with ThreadPoolExecutor(max(1, jobs)) as pool, \
            tqdm(total=len(plans), unit="notebook", desc=title, dynamic_ncols=True, disable=None) as bar:
        runs = {pool.submit(_run, item, running): item for item in plans}
        left = set(runs)
        try:
            while left:
                busy = [item for run, item in runs.items() if run.running()]
                bar.set_postfix_str(", ".join(item.notebook.stem + item.handover.percent() for item in busy))
                ended, left = wait(left, timeout=1.0, return_when=FIRST_COMPLETED)
                for outcome in (run.result() for run in ended):
                    word = f"FAILED ({outcome.error})" if outcome.error else f"{outcome.seconds:.0f} s"
                    bar.write(f"  {outcome.plan.notebook.name}: {word}")
                    bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()
            raise
    return [run.result() for run in runs]


def _run(item: Plan, running: _Running) -> Outcome:
    start, before = time.perf_counter(), digest_of(records.place(item.target))
    try:
        with locked(item.target.with_name(f".{item.notebook.stem}.lock"), given_up=lambda: running.stopped):
            if digest_of(records.place(item.target)) != before and records.agrees(item.target, item.fingerprint):
                return Outcome(item, time.perf_counter() - start)  # another build has just run it
            return _run_alone(item, running)
    except (GfmError, OSError) as error:  # nothing can be written there
        return Outcome(item, 0.0, str(error))


def _run_alone(item: Plan, running: _Running) -> Outcome:
    record, failed, log = records.place(item.target), records.failure(item.target), item.target.with_suffix(".log")
    scratch = [Path(item.handover.progress_file), item.target.with_suffix(".failed.ipynb")]
    for old in (record, failed, log, *scratch):
        old.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gfm.book.runs.execute", str(item.notebook.path), str(item.target),
               str(os.getpid())]
    start = time.perf_counter()
    env = environment() | item.handover.environment()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                               text=True, cwd=item.notebook.path.parent,
                               start_new_session=True)  # Ctrl-C in a terminal is for this process, which passes it on
    running.add(process)
    try:
        told = process.communicate(json.dumps(item.parameters))[1]
    finally:
        running.discard(process)
        scratch[0].unlink(missing_ok=True)
    seconds = round(time.perf_counter() - start, 1)
    with suppress(InputError):  # on a full disk; what went wrong is told anyway
        write_text(log, told)
    if process.returncode:
        lines = [line for line in told.strip().splitlines() if line.strip()]
        error = lines[-1] if lines else "it ended without a message"
        if running.stopped:
            return Outcome(item, seconds, "it was stopped")
        with suppress(InputError):
            write_text(failed, error + "\n")
        return Outcome(item, seconds, error)
    records.write(item.target, {**item.fingerprint, "seconds": seconds}, item.verdicts)
    return Outcome(item, seconds)


def _fingerprint(register: Register, notebook: Notebook, parameters: dict[str, Any]) -> dict[str, Any]:
    cells = [[c["cell_type"], source_of(c), c.get("metadata", {}).get("tags", [])] for c in notebook.cells]
    entries = [repr(e) for e in register.shown_in(notebook.name)]
    used = source.imports_of(notebook.code()) or {"gfm.store"}
    return {"text": _sha(cells), "parameters": json.loads(json.dumps(parameters)), "register": _sha(entries),
            "modules": source.module_digests(used, drawing=True)}


def _why(register: Register, name: str, now: dict[str, Any], target: Path, profile: str) -> str:
    if not records.place(target).is_file() or not target.is_file():
        return "it has not been run"
    try:
        then = records.read(target)
    except UnreadableFileError:
        return records.damage(target)
    if not set(now) <= set(then):
        return "it has not been run"
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
    return records.damage(target, then)


def _sha(value: Any) -> str:
    return sha(json.dumps(value, sort_keys=True))
