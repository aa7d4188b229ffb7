"""Committed results: long runs copied to ``book/results`` with their provenance, small enough to commit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from gfm.book.paths import PROFILES, build_folder
from gfm.book.register import Register
from gfm.book.runs.notebooks import Notebook
from gfm.book.runs.plans import executed
from gfm.book.verdicts import verdict_file
from gfm.checks import known
from gfm.errors import InputError, UnreadableFileError
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
        UnreadableFileError: The notebook has not been run under this profile.
        InputError: All kept results together would exceed 30 MB.
    """
    known("profile", profile, PROFILES)
    notebook = Notebook(register.root, name)
    run = executed(register.root, profile, notebook.name)
    if not run.is_file():
        raise UnreadableFileError(f"{notebook.name} has not been run under {profile}: "
                                  f"gfm run {notebook.stem} --profile {profile}")
    build, target = build_folder(register.root) / profile, register.root / "book" / "results" / profile
    pairs, left_out = [(run, target / "run" / notebook.name)], []
    for kind in ("figures", "data"):
        folder = build / kind / notebook.stem
        pairs += [(f, target / kind / notebook.stem / f.name) for f in sorted(folder.glob("*"))]
    for entry in (e for e in register.shown_in(notebook.name) if e.claims):
        verdicts = verdict_file(register.root, profile, entry.id)
        pairs.append((verdicts, target / "verdicts" / verdicts.name))
        for result in json.loads(verdicts.read_text(encoding="utf-8"))["results"]:
            stored = Store().entry(result["experiment"], result["key"])
            files = [f for f in sorted(stored.glob("*")) if f.is_file()]
            if sum(f.stat().st_size for f in files) > MOST_OF_ONE:
                left_out.append(f"{result['experiment']} {result['key']}")
                continue
            place = target / "store" / result["experiment"] / result["key"]
            pairs += [(f, place / f.name) for f in files]
    _fits(register.root / "book" / "results", pairs)
    for old, new in pairs:
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(old, new)
    return Kept([new for _, new in pairs], left_out)


def _fits(results: Path, pairs: list[tuple[Path, Path]]) -> None:
    replaced = {new for _, new in pairs}
    size = sum(f.stat().st_size for f in results.rglob("*") if f.is_file() and f not in replaced)
    size += sum(old.stat().st_size for old, _ in pairs)
    if size > MOST_BYTES:
        raise InputError(f"book/results would hold {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB are kept.")
