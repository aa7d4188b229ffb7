"""Every page printed to a PDF by Chromium, in the book's order, and all of them in one archive."""

import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from gfm.errors import GfmError, InputError

__all__ = ["browser", "print_pages"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """The Chromium that the variable ``CHROMIUM`` names, else the one that is found.

    Raises:
        InputError: There is none.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if not found:
        raise InputError("Printing takes Chromium: install it, or set CHROMIUM to its path.")
    return found


def print_pages(site: Path, target: Path) -> list[Path]:
    """Print the pages built in ``site`` to ``target``, as 01-index.pdf and so on, and archive them as ``target``.zip.

    Raises:
        InputError: There are no pages, or no browser.
        GfmError: A page could not be printed.
    """
    if not (site / "html" / "index.html").is_file():
        raise InputError("There are no pages to be printed: run `gfm build` first.")
    program = browser()
    pages = list(_order(yaml.safe_load((site / "src" / "_toc.yml").read_text(encoding="utf-8"))))
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    made = []
    for number, page in enumerate(pages, 1):
        name = Path(page.removesuffix(".ipynb"))
        made.append(target / f"{number:02}-{name.name}.pdf")
        _print(program, site / "html" / f"{name}.html", made[-1])
    with zipfile.ZipFile(target.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in made:
            archive.write(file, f"{target.name}/{file.name}")
    return made


def _order(contents: dict[str, Any]) -> Iterator[str]:
    yield contents["root"]
    for part in contents["parts"]:
        yield from (chapter["file"] for chapter in part["chapters"])


def _print(program: str, page: Path, file: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
                   "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", "--no-pdf-header-footer",
                   f"--print-to-pdf={file}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode or not file.is_file() or not file.read_bytes().startswith(b"%PDF-"):
        told = (done.stderr.strip().splitlines() or ["no message"])[-1].rstrip(".")
        raise GfmError(f"{page.name} could not be printed: {told}.")
