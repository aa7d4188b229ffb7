"""What to cite: the book itself, and the papers and software that a notebook builds on."""

import re
from collections.abc import Mapping
from pathlib import Path

from gfm.book.register import Register
from gfm.book.runs.notebooks import Notebook, source_of
from gfm.book.site.addresses import addresses, page_address
from gfm.errors import UnreadableFileError

__all__ = ["BOOK", "bibtex", "entries", "keys_of", "page_entry", "with_letters"]

BOOK = "gfmbook"  # the key of the book's own entry
_PAPER = {"central-flows": "cohen2024central", "gfm": "shou2025gfm", "ours": None}
_SECTION = {"central-flows": ("cohen2024central",), "gradient-flow-matching": ("shou2025gfm",),
            "both": ("cohen2024central", "shou2025gfm")}


def entries(folder: Path) -> dict[str, str]:
    """Key -> entry of the ``references.bib`` in a folder.

    Raises:
        UnreadableFileError: The file holds no entries.
    """
    text = (folder / "references.bib").read_text(encoding="utf-8")
    found = {m[1]: m[0].strip() for m in re.finditer(r"@\w+\{([^,]+),.*?\n\}", text, re.DOTALL)}
    if not found:
        raise UnreadableFileError("book/references.bib holds no entries.")
    return found


def with_letters(entries: Mapping[str, str]) -> str:
    """The entries as one file, with 2025a and 2025b for years that the same first author has twice.

    Sphinx prints author and year as they stand, so that both works would else be cited alike.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for key, entry in entries.items():
        author, year = (m[1] if (m := re.search(rf"(?m)^ *{field} *= *\{{(.*)\}},?$", entry)) else ""
                        for field in ("author", "year"))
        alike.setdefault((author.partition(",")[0], year), []).append(key)
    out = dict(entries)
    for (_, year), keys in alike.items():
        for letter, key in zip("abcdefgh", keys if len(keys) > 1 else (), strict=False):
            out[key] = re.sub(rf"(?m)^( *year *= *\{{){year}\}}", rf"\g<1>{year}{letter}}}", out[key])
    return "\n\n".join(out.values()) + "\n"


def page_entry(book: str, page: str, title: str, address: str) -> str:
    """The BibTeX entry of one page.

    Args:
        book: the entry of the whole book, whose title, author, year and version are repeated.
        page: the page's path, whose last part becomes part of the key.
        title: the page's title.
        address: the book's public address, or ''.
    """
    of = dict(re.findall(r"(?m)^ *(\w+) *= *\{(.*)\},?$", book))
    told = {"title": re.sub(r"([&%#_])", r"\\\1", title), "author": of["author"], "year": of["year"],
            "note": f"A page of: {of['title']}. {of['note']}"}
    if address:
        told["url"] = page_address(address, f"{page}.html")
    lines = [f"  {key:6} = {{{value}}}," for key, value in told.items()]
    return "\n".join([f"@misc{{{BOOK}-{Path(page).name},", *lines, "}"])


def keys_of(register: Register, name: str | None) -> list[str]:
    """BibTeX keys of what a notebook (or, without a name, the whole book) builds on."""
    keys = [BOOK]
    if name is None:
        return [*keys, "cohen2024central", "shou2025gfm"]
    notebook = Notebook(register.root, name)
    for element in register.shown_in(notebook.name):
        keys += [*_SECTION[element.section], _PAPER[element.paper] or ""]
    prose = "\n".join("".join(c["source"]) for c in notebook.cells if c["cell_type"] == "markdown")
    for group in re.findall(r"\{cite[:\w]*\}`([^`]+)`", prose):
        keys += [k.strip() for k in group.split(",")]
    return [k for k in dict.fromkeys(keys) if k]


def bibtex(register: Register, name: str | None = None) -> str:
    """BibTeX for a notebook (its page first) or for the book.

    Raises:
        UnreadableFileError: The bibliography lacks a key.
    """
    known = entries(register.root / "book")
    keys = keys_of(register, name)
    missing = [k for k in keys if k not in known]
    if missing:
        raise UnreadableFileError(f"book/references.bib lacks {', '.join(missing)}.")
    found = [known[k] for k in keys]
    if name is not None:
        notebook = Notebook(register.root, name)
        heads = (re.match(r"\s*# (.+)", source_of(c)) for c in notebook.cells if c["cell_type"] == "markdown")
        title = next((head[1].strip() for head in heads if head), Path(name).stem)
        page = f"notebooks/{Path(notebook.name).with_suffix('').as_posix()}"
        found.insert(0, page_entry(known[BOOK], page, title, addresses(register.root)[0]))
    return "\n\n".join(found)
