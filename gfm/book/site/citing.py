"""What to cite: the book itself, and the papers and software that a notebook builds on."""

from __future__ import annotations

import re
from pathlib import Path

from gfm.book.register import Register
from gfm.book.runs.notebooks import Notebook
from gfm.errors import UnreadableFileError

__all__ = ["bibtex", "entries", "keys_of"]

_PAPER = {"central-flows": "cohen2024central", "gfm": "shou2025gfm", "ours": None}
_SECTION = {"central-flows": ("cohen2024central",), "gradient-flow-matching": ("shou2025gfm",),
            "both": ("cohen2024central", "shou2025gfm")}


def entries(root: Path) -> dict[str, str]:
    """Key -> entry of ``book/references.bib``.

    Raises:
        UnreadableFileError: The file holds no entries.
    """
    text = (root / "book" / "references.bib").read_text(encoding="utf-8")
    found = {m[1]: m[0].strip() for m in re.finditer(r"@\w+\{([^,]+),.*?\n\}", text, re.DOTALL)}
    if not found:
        raise UnreadableFileError("book/references.bib holds no entries.")
    return found


def keys_of(register: Register, name: str | None) -> list[str]:
    """BibTeX keys of what a notebook (or, without a name, the whole book) builds on."""
    keys = ["gfmbook"]
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
    """BibTeX for a notebook or for the book.

    Raises:
        UnreadableFileError: The bibliography lacks a key.
    """
    known = entries(register.root)
    keys = keys_of(register, name)
    missing = [k for k in keys if k not in known]
    if missing:
        raise UnreadableFileError(f"book/references.bib lacks {', '.join(missing)}.")
    return "\n\n".join(known[k] for k in keys)
