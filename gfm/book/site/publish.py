"""The built book as a folder that any static host can serve."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from gfm.book.site.addresses import addresses, root_of
from gfm.book.site.links import check_site
from gfm.checks import place
from gfm.errors import InputError
from gfm.files import digest_of, replacing

__all__ = ["SUMS", "checksums", "publish"]

SUMS = "SHA256SUMS"


def checksums(folder: Path, files: Iterable[Path]) -> str:
    """The SHA-256 checksums of files below a folder, as ``sha256sum -c`` reads them."""
    lines = [f"{digest_of(file)}  {file.relative_to(folder).as_posix()}\n"
             for file in sorted(files)]
    return "".join(lines)


def publish(root: Path, site: Path, target: Path) -> list[str]:
    """Lay out the pages built in ``site`` in the folder ``target``; an earlier publication there is replaced.

    The folder is complete from the moment it is there: it is written beside ``target`` and renamed.

    Returns:
        What is wrong with the published pages, one sentence each.

    Raises:
        InputError: There are no pages, faults were found in them, ``target`` holds something that was not published
            by this function, or it lies inside the built pages.
    """
    html, target = site / "html", place("The folder", target).resolve()
    if not (html / "index.html").is_file() or not (site / "built.sha256").is_file():
        raise InputError("There are no pages without faults to be published: run `gfm build` first.")
    if target == site.resolve() or site.resolve() in target.parents:
        raise InputError(f"{target} lies inside the pages that were built: name a folder elsewhere.")
    if target.exists() and (foreign := _foreign(target)):
        raise InputError(f"{target} holds something else than a published book ({foreign}): "
                         "name another folder, or empty it.")
    with replacing(target) as partial:
        shutil.copytree(html, partial)
        (partial / ".nojekyll").touch()  # GitHub Pages would leave out folders such as _static
        (partial / SUMS).write_text(checksums(partial, _files(partial)), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
    return check_site(target, root_of(addresses(root)[0]))


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _foreign(folder: Path) -> str:
    """A file in a folder that no publication put there, and that would be lost if it were replaced; '' if none."""
    if not folder.is_dir():
        return "a file"
    files = {file.relative_to(folder).as_posix() for file in _files(folder)}
    sums = folder / SUMS
    listed = sums.read_text(encoding="utf-8", errors="replace").splitlines() if SUMS in files else []
    return min(files - {SUMS} - {line[66:] for line in listed}, default="")
