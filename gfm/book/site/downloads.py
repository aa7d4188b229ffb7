"""What readers can take with them: all notebooks as executed, all figures with their data, and every claim as JSON."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfm import __version__
from gfm.book.outputs import markdown_table
from gfm.book.register import Register
from gfm.book.site.publish import SUMS, checksums
from gfm.book.verdicts import NOT_RUN, best, load_whole

__all__ = ["claims", "write_downloads"]

_FOLDER = Path("extra", "release")  # what is in `extra` comes to lie at the root of the site
_KEPT = ("when", "commit", "versions", "parameters")


def write_downloads(register: Register, source: Path, profiles: Mapping[str, str]) -> str:
    """Write archives, claims and checksums of a staged book, and list them as a Markdown table.

    Args:
        register: The book's register.
        source: The staged book, with what its pages offer in ``downloads``.
        profiles: Notebook -> profile of its page.
    """
    notebooks: dict[str, Path] = {}
    figures: dict[str, Path] = {}
    for name, shown in profiles.items():
        page = Path(name).with_suffix("")
        for profile, suffix in ((shown, ""), ("paper", "-paper")):
            for file in (source / "downloads" / f"{page.name}{suffix}").glob("*"):
                if file.suffix == ".ipynb":
                    notebooks[f"{profile}/{name}"] = file
                else:
                    figures[f"{profile}/{page}/{file.name}"] = file
    folder = source / _FOLDER
    folder.mkdir(parents=True)
    _archive(folder / "notebooks.zip", notebooks)
    _archive(folder / "figures.zip", figures)
    every = claims(register)
    (folder / "claims.json").write_text(json.dumps(every, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / SUMS).write_text(checksums(folder, folder.glob("*")), encoding="utf-8")
    drawn = sum(name.endswith(".svg") for name in figures)
    judged = sum(len(element["claims"]) for element in every["elements"])
    told = {"notebooks.zip": f"{len(notebooks)} notebooks as executed, with their outputs",
            "figures.zip": f"{drawn} figures as SVG, and the numbers of figures and tables as CSV and JSON",
            "claims.json": f"{judged} claims of {len(every['elements'])} elements, with value, bound and verdict",
            SUMS: "SHA-256 checksums of these files"}
    rows = [[f'<a href="release/{name}" download>{name}</a>', what, _size(folder / name)]
            for name, what in told.items()]
    return markdown_table(("File", "What it holds", "Size"), rows)


def claims(register: Register) -> dict[str, Any]:
    """Every claim of every written element with its value, bound and verdict, and what the run was made with."""
    elements = []
    for entry in (e for e in register if e.notebook):
        stored = best(register, entry, load_whole)
        found = {v.claim.id: v for v in stored.verdicts} if stored else {}
        meta = {key: stored.meta[key] for key in _KEPT if key in stored.meta} if stored else {}
        elements.append({
            "id": entry.id, "title": entry.title, "notebook": entry.notebook, "paper": entry.paper,
            "items": entry.items, "profile": stored.profile if stored else None, **meta,
            "claims": [{"id": c.id, "sentence": c.sentence, "quantity": c.quantity,
                        "value": _number(found[c.id].value) if c.id in found else None,
                        "bound": str(found[c.id].bound if c.id in found else c.bound), "paper": c.paper,
                        "verdict": found[c.id].verdict if c.id in found else NOT_RUN} for c in entry.claims]})
    return {"schema": "gfm-claims/1", "version": __version__, "elements": elements}


def _number(value: float | None) -> float | str | None:
    """JSON has no word for infinity: it is written as text."""
    return value if value is None or abs(value) < float("inf") else str(value)


def _archive(file: Path, members: Mapping[str, Path]) -> None:
    """A ZIP archive that is the same, byte for byte, whenever its members are."""
    with zipfile.ZipFile(file, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name].read_bytes(), zipfile.ZIP_DEFLATED)


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
