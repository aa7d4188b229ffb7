"""The built book as a folder that any static host can serve."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from gfm.book.site.addresses import addresses, root_of
from gfm.book.site.links import check_site
from gfm.errors import InputError

__all__ = ["SUMS", "checksums", "publish"]

SUMS = "SHA256SUMS"


def checksums(folder: Path, files: Iterable[Path]) -> str:
    """The SHA-256 checksums of files below a folder, as ``sha256sum -c`` reads them."""
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n"
             for file in sorted(files)]
    return "".join(lines)


def publish(root: Path, site: Path, target: Path) -> list[str]:
    """Lay out the pages built in ``site`` in the folder ``target``; an earlier publication there is replaced.

    Returns:
        What is wrong with the published pages, one sentence each.

    Raises:
        InputError: There are no pages, faults were found in them, or ``target`` holds something else.
    """
    html = site / "html"
    if not (html / "index.html").is_file() or not (site / "built.sha256").is_file():
        raise InputError("There are no pages without faults to be published: run `gfm build` first.")
    if target.exists() and not (target.is_dir() and ((target / SUMS).is_file() or not any(target.iterdir()))):
        raise InputError(f"{target} holds something else than a published book: name another folder, or empty it.")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(html, target)
    (target / ".nojekyll").touch()  # GitHub Pages would leave out folders such as _static
    (target / SUMS).write_text(checksums(target, [f for f in target.rglob("*") if f.is_file()]), encoding="utf-8")
    return check_site(target, root_of(addresses(root)[0]))
