"""A notebook as a page: what its element displayed becomes prose, figures and tables.

The executed notebook is left unchanged; the page is a copy in which each such output becomes a Markdown cell
after its code, so that figures have captions, numbers and alt texts, and mathematics is typeset everywhere.
"""

import base64
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfm.book.outputs import Caption, Figure, Output, Table, Verdicts
from gfm.book.runs.notebooks import joined, source_of
from gfm.book.verdicts import VERDICTS
from gfm.errors import RegisterError
from gfm.files import read_json

__all__ = ["Page", "make_page"]

_LARGEST_SVG = 200_000
_OPEN = {"show-code", "sixty-lines"}  # tags of cells whose code is part of the text; all other code is folded


@dataclass(frozen=True)
class Page:
    """Where a page's parts come from and go to.

    Attributes:
        run: the executed notebook.
        files: the profile's build folder (``figures/``, ``data/``).
        source: the staged book.
        name: the notebook relative to ``notebooks/``.
        head: Markdown put under the title.
        elements: id of each element of the register -> its notebook, or None if it is not written yet.
        suffix: appended to the names of figures and tables if a page shows two runs.
        changes: heads and rows (name, value in the first run, value in this one) of the parameters that differ, for a
            run shown after another.
    """

    run: Path
    files: Path
    source: Path
    name: str
    head: str
    elements: Mapping[str, str | None] = field(default_factory=dict)
    suffix: str = ""
    changes: tuple[tuple[str, str, str], ...] = ()

    @property
    def stem(self) -> str:
        """The notebook's file name without folder and suffix."""
        return Path(self.name).stem

    @property
    def downloads(self) -> str:
        """The folder of its downloads, relative to the root of the staged book."""
        return f"downloads/{self.stem}{self.suffix}"

    @property
    def up(self) -> str:
        """The relative path from the page to the root of the staged book."""
        return "../" * (len(Path(self.name).parts))


def make_page(page: Page, beside: Page | None = None) -> dict[str, Figure | Table]:
    """Write the staged notebook below ``page.source/notebooks``.

    Args:
        page: The run to be shown.
        beside: Another run of the same notebook, whose outputs follow at the end.

    Returns:
        Name -> figure or table, for all that the page shows.

    Raises:
        RegisterError: An image has no alt text, or a name is used twice on the page.
    """
    notebook = read_json(page.run, "a notebook")
    shown: dict[str, Figure | Table] = {}
    cells: list[dict[str, Any]] = []
    titled = False
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            text = _links(source_of(cell), page)
            cell = {**cell, "source": text}
            if not titled and text.lstrip().startswith("# "):
                titled = True
                title, _, rest = text.lstrip().partition("\n")
                cell = _markdown(f"{title}\n\n{page.head}\n\n{rest.lstrip()}")
            cells.append(cell)
            continue
        kept, prose = [], []
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":  # warnings stay in the executed notebook: they name paths of its machine
                continue
            if Output.read(output) is None:
                _refuse_bare_image(output, page)
                kept.append(output)
            else:
                prose += _shown(output, page, shown)
        cell["outputs"] = kept
        if cells and _joins(cells[-1], cell):
            cells[-1] = _joined(cells[-1], cell)
        else:
            cells.append(cell)
        cells += prose
    if beside is not None:
        cells += _beside(beside, shown)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
        if cell["cell_type"] == "code":
            _fold(cell)
    notebook["cells"] = cells
    notebook["nbformat_minor"] = 5
    target = page.source / "notebooks" / page.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return shown


def _beside(page: Page, shown: dict[str, Figure | Table]) -> list[dict[str, Any]]:
    """What another run shows, without its code, under a heading of its own."""
    notebook = read_json(page.run, "a notebook")
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in page.changes]
    table = "\n".join(["\n\nWhat differs:\n", *rows[:1], "|---|---|---|", *rows[1:]]) if rows else ""
    cells = [_markdown(f"## The same under the profile *paper*\n\n{page.head}{table}")]
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            cells += _shown(output, page, shown)
    return cells


def _joins(before: dict[str, Any], cell: dict[str, Any]) -> bool:
    """Whether the cell is folded together with the one before it, which shows nothing."""
    both = before["cell_type"] == cell["cell_type"] == "code" and not before["outputs"]
    return both and not _OPEN & {*_tags(before), *_tags(cell)}


def _joined(before: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any]:
    source = f"{source_of(before).rstrip()}\n\n{source_of(cell)}"
    return {**cell, "source": source, "metadata": {**cell["metadata"], "tags": [*_tags(before), *_tags(cell)]}}


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _fold(cell: dict[str, Any]) -> None:
    tags, lines = _tags(cell), source_of(cell).count("\n") + 1
    if _OPEN & set(tags):
        return
    what = "the parameters and the code" if "parameters" in tags else "the code"
    prompt = f"{what} ({lines} line{'s' * (lines > 1)})"
    cell["metadata"] = {"tags": ["hide-input"],
                        "mystnb": {"code_prompt_show": f"Show {prompt}", "code_prompt_hide": f"Hide {prompt}"}}


def _shown(output: dict[str, Any], page: Page, shown: dict[str, Figure | Table]) -> list[dict[str, Any]]:
    """The cell that an output becomes, if any; figures and tables are added to ``shown``."""
    what = Output.read(output)
    if what is None or isinstance(what, Caption):  # a caption has become part of its figure or table
        return []
    data = output.get("data", {})
    text = joined(data.get("text/markdown", ""))
    if isinstance(what, (Figure, Table)):
        name = what.name + page.suffix
        if name in shown:
            raise RegisterError(f"{page.name} shows two things named {name!r}.")
        shown[name] = what
        text = _figure(what, data["image/png"], page) if isinstance(what, Figure) else _table(what, text, page)
    elif isinstance(what, Verdicts):
        badges = re.compile(rf"\*\*({'|'.join(VERDICTS)})\*\*")
        text = "{.verdicts}\n" + badges.sub(lambda match: badge(match[1]), _fewer_columns(text))
    else:
        text = _links(text, page)
    return [_markdown(text)]


def _fewer_columns(table: str) -> str:
    """The table of verdicts with a claim's name, its sentence and what is measured in one column."""
    head, rule, *rows = (re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in table.strip().splitlines())
    out = [[head[0], *head[3:]], [rule[0], *rule[3:]]]
    out += [[f" **{name.strip()}** {sentence.strip()} [{measured.strip()}]{{.measured}} ", *rest]
            for name, sentence, measured, *rest in rows]
    return "\n".join("|" + "|".join(row) + "|" for row in out)


def _figure(figure: Figure, png: str, page: Page) -> str:
    if not figure.alt:
        raise RegisterError(f"{page.name}: the figure {figure.name + page.suffix!r} has no alt text.")
    folder = page.source / "notebooks" / Path(page.name).parent / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    name, links = figure.name + page.suffix, []
    image = folder / f"{name}.png"
    image.write_bytes(base64.b64decode(png))  # shown, or beside the SVG that is: link previews take PNG only
    svg = page.files / "figures" / page.stem / f"{figure.name}.svg"
    if svg.is_file():
        links.append(_download(svg, page, "SVG"))
    if svg.is_file() and svg.stat().st_size <= _LARGEST_SVG:
        image = image.with_suffix(".svg")
        shutil.copyfile(svg, image)
    links += _data_links(figure.name, page)
    alt = figure.alt.replace("\n", " ")
    note = f" [{' · '.join(links)}]{{.downloads}}" if links else ""
    mapped = ":figclass: colour-map\n" if svg.is_file() and b"<image" in svg.read_bytes() else ""
    return (f"````{{figure}} figures/{image.name}\n:name: {name}\n:alt: {alt}\n:width: 100%\n{mapped}\n"
            f"{figure.caption.strip()}{note}\n````")


def _table(table: Table, body: str, page: Page) -> str:
    links = _data_links(table.name, page)
    note = f"\n\n[{' · '.join(links)}]{{.downloads}}" if links else ""
    caption = " ".join(table.caption.split())
    return f"````{{table}} {caption}\n:name: {table.name}{page.suffix}\n:class: data\n\n{body}\n````{note}"


def _data_links(name: str, page: Page) -> list[str]:
    files = {kind: page.files / "data" / page.stem / f"{name}.{kind}" for kind in ("csv", "json")}
    return [_download(file, page, kind.upper()) for kind, file in files.items() if file.is_file()]


def _download(file: Path, page: Page, label: str) -> str:
    target = page.source / page.downloads / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return f"{{download}}`{label} <{page.up}{page.downloads}/{file.name}>`"


def _links(text: str, page: Page) -> str:
    """The text with links to elements (by id or file) leading to their pages, or as plain text if there is none."""

    def link(match: re.Match[str]) -> str:
        name = Path(match[2]).name.removesuffix(".ipynb")
        if name not in page.elements:
            return match[0]
        notebook = page.elements[name]
        if notebook is None:
            return match[1]
        path = os.path.relpath(notebook, Path(page.name).parent)
        return f"[{match[1]}]({path}{match[3] or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([\w./-]+)(#[\w-]*)?\)", link, text)


def badge(verdict: str) -> str:
    """A verdict as a small label (words, not colour alone) that leads to its definition (in ``how-to-read.md``)."""
    name = verdict.replace(" ", "-")
    words = f"{{ref}}`{verdict} <verdict-{name}>`" if verdict in VERDICTS else verdict
    return f"[{words}]{{.verdict .{name}}}"


def _refuse_bare_image(output: dict[str, Any], page: Page) -> None:
    images = [k for k in output.get("data", {}) if k.startswith("image/")]
    if images:
        raise RegisterError(f"{page.name} shows an image without alt text; draw it with element.show(..., alt=...).")


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": text}
