"""Checks of a build: each says what is wrong, and returns nothing if all is well."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfm.book.outputs import Figure, Output, Table, Verdicts
from gfm.book.register import Register
from gfm.book.runs.notebooks import source_of
from gfm.files import read_json
from gfm.store.provenance import installed

__all__ = ["builders", "missing_pages", "other_builders", "what_a_run_lacks"]

_BUILDERS = ("jupyter-book", "Sphinx", "myst-nb", "myst-parser", "sphinx-book-theme", "pydata-sphinx-theme")


def builders() -> dict[str, str]:
    """Installed version of each package that turns notebooks into pages ("none" if it is not installed)."""
    return dict.fromkeys(_BUILDERS, "none") | installed(_BUILDERS)


def other_builders(root: Path) -> str:
    """A sentence on the builders whose versions differ from the project's ``constraints.txt``, or ''.

    A builder without a pin may have any version; without that file none is pinned.
    """
    file = root / "constraints.txt"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    pinned = {_plain(name): number for name, number in re.findall(r"(?m)^([\w.-]+) *== *([^\s;#]+)", text)}
    wrong = {name: f"{name} {found} instead of {pinned[_plain(name)]}" for name, found in builders().items()
             if pinned.get(_plain(name), found) != found}
    if not wrong:
        return ""
    return (f"The pages would be built by {', '.join(wrong.values())}, as constraints.txt pins: run "
            f"`make env`, or, without make, `pip install -c constraints.txt {' '.join(wrong)}`.")


def what_a_run_lacks(register: Register, name: str, profile: str, run: Path) -> list[str]:
    """Sentences on cells not executed or ended by an error, on outputs missing or hollow, and on claims not judged.

    Args:
        register: the book's register.
        name: the notebook, relative to ``notebooks/``.
        profile: the run's profile, named in the sentences.
        run: the executed (or committed) notebook.
    """
    cells = [c for c in read_json(run, "a notebook")["cells"]
             if c["cell_type"] == "code" and source_of(c).strip()]
    outputs = [o for c in cells for o in c.get("outputs", ())]
    shown = [Output.read(o) for o in outputs]
    failed = sum(o.get("output_type") == "error" for o in outputs)
    hollow = sum(what is not None and not _filled(o, what) for o, what in zip(outputs, shown, strict=True))
    skipped = sum(c.get("execution_count") is None for c in cells)
    judged = {what.element: _text(o) for o, what in zip(outputs, shown, strict=True) if isinstance(what, Verdicts)}
    wrong = [f"{skipped} of its {len(cells)} code cells were not executed"] if skipped else []
    wrong += [f"{failed} of its {len(cells)} code cells ended in an error"] if failed else []
    wrong += [f"it has {hollow} empty output{'s' * (hollow > 1)}"] if hollow else []
    if not outputs:
        wrong.append("it has no outputs")
    elif not any(isinstance(what, (Figure, Table)) for what in shown):
        wrong.append("it shows no figure and no table")
    wrong += [f"the claims of {e.id} are not judged in it" for e in register.shown_in(name)
              if e.claims and e.id not in judged]
    wrong += [f"its table of claims has none of {e.id}" for e in register.shown_in(name) if e.id in judged
              and not any(f"| {c.id} |" in judged[e.id] for c in e.claims)]  # a kept run may lack later ones
    return [f"notebooks/{name} ({profile}): {what}" for what in wrong]


def _text(output: Mapping[str, Any]) -> str:
    return "".join(output.get("data", {}).get("text/markdown", ""))


def _filled(output: Mapping[str, Any], what: Output) -> bool:
    """Whether there is a picture in the output of a figure, and text in any other."""
    return bool(output.get("data", {}).get("image/png") if isinstance(what, Figure) else _text(output).strip())


def missing_pages(register: Register, html: Path) -> list[str]:
    """Sentences on elements that have a notebook but no page below ``html``, or on a site without any page."""
    if not any((html / "notebooks").rglob("*.html")):
        return ["no notebook has become a page"]
    pages = {e.id: Path("notebooks", e.notebook).with_suffix(".html") for e in register if e.notebook}
    return [f"the element {name} has no page: {page.as_posix()} was not built, or is empty"
            for name, page in pages.items()
            if not (html / page).is_file() or "<h1" not in (html / page).read_text(encoding="utf-8")]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
