"""The order of the book's pages, and the words by which the search finds them (``book/contents.yml``)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gfm.book.register import Register
from gfm.files import read_yaml

__all__ = ["index_entries", "table_of_contents"]


def table_of_contents(register: Register, staged: set[str], pages: set[str]) -> dict[str, Any]:
    """The book's contents for Sphinx.

    Args:
        register: the book's register.
        staged: the notebooks that have become pages, relative to ``notebooks/``.
        pages: the names of all other pages.
    """
    order = _order(register)
    notebooks = {_name(file) for file in register.notebooks() if file in staged}
    order[-1][1].extend(sorted(pages - {name for _, names in order for name in names} - {"index"}))
    parts = []
    for caption, names in order:
        files = [f"notebooks/{n}" if n in notebooks else n for n in names if n in notebooks | pages]
        if files:
            parts.append({"caption": caption, "chapters": [{"file": f} for f in files]})
    return {"format": "jb-book", "root": "index", "parts": parts}


def index_entries(register: Register) -> dict[str, str]:
    """Notebook -> a directive with the index entries of its page: codes of claims and figures, and other words.

    Sphinx's search lists the page of an index entry first, the main entry's before the others. A code's main entry is
    on the first page with exactly that code.
    """
    pages = {name: file for file in register.notebooks() for name in (_name(file),)}
    order = [pages[name] for _, names in _order(register) for name in names if name in pages]
    main: dict[str, str] = {}
    found: dict[str, list[str]] = {file: [] for file in order}
    for exact in (True, False):
        for file in order:
            for code in dict.fromkeys(_codes(register, file, exact)):
                if code not in found[file]:
                    found[file].append(code)
                main.setdefault(code, file)
    words = {pages[name]: more for name, more in _read(register)["search"].items() if name in pages}
    entries = {file: [("! " if main[code] == file else "") + code for code in codes] for file, codes in found.items()}
    entries = {file: [*own, *(f"! {word}" for word in words.get(file, ()))] for file, own in entries.items()}
    return {file: f"```{{index}} {', '.join(own)}\n```" for file, own in entries.items() if own}


def _codes(register: Register, file: str, exact: bool) -> Iterator[str]:
    """The codes by which a notebook is found.

    Yields:
        Codes such as A4 or G14 of the elements that it shows; if not exact, A4 for the claim A4-worst.
    """
    for entry in register.shown_in(file):
        claims = [c.id for c in entry.claims if re.match(r"[A-Z]\d", c.id)]
        yield from claims if exact else (name.partition("-")[0] for name in claims)
        if entry.paper == "central-flows":
            yield from re.findall(r"\b[GSRX]\d+\b", entry.items)


def _order(register: Register) -> list[tuple[str, list[str]]]:
    """Caption and page names of each part, including the notebooks that the file does not name."""
    order = [(part["caption"], list(part["pages"])) for part in _read(register)["parts"]]
    for entry in register:
        name = _name(entry.notebook) if entry.notebook else None
        if name and not any(name in names for _, names in order):
            next(names for _, names in order if entry.section in names).append(name)
    return order


def _name(notebook: str) -> str:
    return Path(notebook).with_suffix("").as_posix()


def _read(register: Register) -> dict[str, Any]:
    return read_yaml(register.root / "book" / "contents.yml")
