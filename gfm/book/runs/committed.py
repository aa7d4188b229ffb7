"""Committed results: long runs copied to ``book/results`` with their provenance, small enough to commit."""

import shutil
from pathlib import Path
from typing import NamedTuple

from gfm.book.paths import PROFILES, build_folder
from gfm.book.register import Register
from gfm.book.runs import records
from gfm.book.runs.notebooks import Notebook
from gfm.book.runs.plans import executed
from gfm.book.verdicts import verdict_file
from gfm.checks import known
from gfm.errors import InputError, UnreadableFileError
from gfm.files import read_json, replacing
from gfm.store import Store

__all__ = ["MOST_BYTES", "MOST_OF_ONE", "Kept", "keep"]

MOST_BYTES = 30_000_000
#: Larger stored results are not kept; the pages, data and verdicts made from them are.
MOST_OF_ONE = 5_000_000


class Kept(NamedTuple):
    """The files written, and the stored results ("experiment key") that are too large to be committed."""

    files: list[Path]
    left_out: list[str]


def keep(register: Register, name: str, profile: str) -> Kept:
    """Copy a run (notebook, figures, data, verdicts, stored results) into ``book/results``.

    Raises:
        UnknownNameError: The profile is unknown.
        UnreadableFileError: The notebook has not been run under this profile, or a file of the run is damaged.
        InputError: All kept results together would exceed 30 MB.
    """
    known("profile", profile, PROFILES)
    notebook = Notebook(register.root, name)
    run = executed(register.root, profile, notebook.name)
    if not run.is_file():
        raise UnreadableFileError(f"{notebook.name} has not been run under {profile}; run it with "
                                  f"`gfm run {notebook.stem} --profile {profile}`.")
    if wrong := records.damage(run):
        raise UnreadableFileError(f"The run of {notebook.name} under {profile} is not whole ({wrong}); run it again.")
    build, target = build_folder(register.root) / profile, register.root / "book" / "results" / profile
    shown, left_out = register.shown_in(notebook.name), []
    written = [records.place(run), *records.written(run, [e.id for e in shown])]
    pairs = [(f, target / f.relative_to(build)) for f in written]
    for entry in (e for e in shown if e.claims):
        verdicts = verdict_file(register.root, profile, entry.id)
        for result in read_json(verdicts, "a whole verdict file", sealed=True)["results"]:
            stored = Store().entry(result["experiment"], result["key"])
            if stored.exists():
                Store().load(result["experiment"], result["key"])
            files = [f for f in sorted(stored.glob("*")) if f.is_file()]
            if sum(f.stat().st_size for f in files) > MOST_OF_ONE:
                left_out.append(f"{result['experiment']} {result['key']}")
                continue
            place = target / "store" / result["experiment"] / result["key"]
            pairs += [(f, place / f.name) for f in files]
    _fits(register.root / "book" / "results", pairs)
    for old, new in pairs:
        with replacing(new) as partial:
            shutil.copyfile(old, partial)
    return Kept([new for _, new in pairs], left_out)


def _fits(results: Path, pairs: list[tuple[Path, Path]]) -> None:
    replaced = {new for _, new in pairs}
    size = sum(f.stat().st_size for f in results.rglob("*") if f.is_file() and f not in replaced)
    size += sum(old.stat().st_size for old, _ in pairs)
    if size > MOST_BYTES:
        raise InputError(f"book/results would hold {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB are kept.")
