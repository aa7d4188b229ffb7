"""Files with checksums, changed by a test that wants them to be taken for whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gfm.book.runs import records
from gfm.files import read_json, write_json


def rewritten(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A verdict file or a record after a change, with a checksum that fits."""
    known = read_json(file, "a sealed file", sealed=True)
    change(known)
    write_json(file, known)


def recorded(run: Path, like: Path | None = None) -> None:
    """The record of an executed notebook that shows the toy, with digests of its files as they are now."""
    records.write(run, records.read(like or run), ["toy"])
