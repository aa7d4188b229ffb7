"""The record of a run: what it depended on, and digests of all that it wrote, beside the executed notebook.

A run whose files are not all as they were written is not shown and not reused. Kept runs (``book/results``) have such
records too.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gfm.errors import UnreadableFileError
from gfm.files import digest_of, read_json, write_json

__all__ = ["agrees", "damage", "failure", "place", "read", "write", "written"]


def place(run: Path) -> Path:
    """The record of an executed notebook."""
    return run.with_suffix(".run.json")


def failure(run: Path) -> Path:
    """The file that says why the last run failed, if it did."""
    return run.with_suffix(".error")


def written(run: Path, elements: Iterable[str]) -> list[Path]:
    """What a run wrote below its profile's folder: itself, figures, data, and the verdicts of its elements."""
    folder = _folder(run)
    found = [f for kind in ("figures", "data") for f in sorted((folder / kind / run.stem).glob("[!.]*"))]
    return [run, *found, *(f for name in elements if (f := folder / "verdicts" / f"{name}.json").is_file())]


def write(run: Path, known: Mapping[str, Any], elements: Iterable[str]) -> None:
    """Record a run that ended well, with digests of all that it wrote."""
    digests = {f.relative_to(_folder(run)).as_posix(): digest_of(f) for f in written(run, elements)}
    write_json(place(run), {**known, "wrote": digests})


def read(run: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        UnreadableFileError: It is missing or altered.
    """
    return read_json(place(run), "the whole record of a run", sealed=True)


def agrees(run: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Whether a run has this fingerprint and all its files are as they were written."""
    try:
        known = read(run)
    except UnreadableFileError:
        return False
    return not damage(run, known) and all(known.get(part) == value for part, value in fingerprint.items())


def damage(run: Path, known: Mapping[str, Any] | None = None) -> str:
    """What is wrong with the files of a run, in words; '' if all are as they were written.

    Args:
        run: the executed notebook.
        known: its record, if it has been read.
    """
    try:
        known = read(run) if known is None else known
    except UnreadableFileError as error:
        return f"the record of its run cannot be trusted ({str(error).rstrip('.')})"
    wrong = [file for file, digest in known["wrote"].items() if digest_of(_folder(run) / file) != digest]
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}: missing or damaged since the run" if wrong else ""


def _folder(run: Path) -> Path:
    """The folder of the profile: ``run/`` in it holds the executed notebooks, in folders as in ``notebooks/``."""
    return next(folder for folder in run.parents if folder.name == "run").parent
