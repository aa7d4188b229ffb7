"""``gfm new``: a runnable notebook, its register entry and its profile, for the author to fill in."""

import json
import re
from contextlib import ExitStack
from pathlib import Path
from string import Template

import yaml

from gfm.book.register import SECTIONS, Register
from gfm.checks import known
from gfm.errors import InputError
from gfm.files import read_yaml, replacing

__all__ = ["new_element"]

_ENTRY = Template("""
- id: $id
  title: $title
  section: $section
  notebook: $notebook
  source: {paper: ours, items: ""}
  claims:
    - id: C1
      sentence: "The central flow predicts the time average of the loss."
      quantity: "median relative error of the loss at the edge after the run's first full cycle, both averaged alike"
      bound: {at_most: 0.3}
  cost: {smoke: "15 s", book: unknown, paper: unknown}
""")

_PROFILE = Template("""
$notebook:
  book: {n: 350, hidden: [16, 16], steps: 500}
""")

_CELLS = [
    ("markdown", "", Template("""\
# $title

Say here what the page asks, and why a reader wants to know.

**What is claimed.** The central flow predicts the time average of the loss.""")),
    ("code", "parameters", Template("""\
profile = "smoke"       # smoke, book or paper
data = "digits"         # a data set: see "How to run"
n = 64                  # training examples
hidden = [8, 8]         # widths of the hidden layers
lr = 0.16
steps = 300
window = 6              # least standard deviation, in steps, of the average; one cycle where that is longer
seed = 0""")),
    ("code", "hide-input", Template("""\
from gfm import book
from gfm.experiments.central.flow_run import flow_run
from gfm.figures import panels as draw
from gfm.figures.plates import plate
from gfm.measures import flow as measures
from gfm.measures.comparison import compare

element = book.Element("$id", profile=profile)""")),
    ("markdown", "", Template("## The run")),
    ("code", "", Template("""\
run = flow_run(
    element.obtain, data=data, n=n, hidden=tuple(hidden), lr=lr, steps=steps, seed=seed, dtype="float64",
    processes=("discrete", "central"),
)
compared = compare(run, window)
error = measures.prediction_error(compared)
panels = plate(run, compared.window)
element.show(
    draw.draw(panels), "$id",
    alt="Say here what the panels show, in words, for those who do not see them. Write every number as a computed one: "
        + compared.if_judged(f"the predicted loss is off by {100 * error:.2g} per cent.", "the run is too short."),
    caption=f"Gradient descent (blue, lr = {lr:g}), its average (orange), and what the central flow predicts "
            "(black; dashed where it is averaged alike).",
    data=draw.data_of(panels), tolerance=0.05,
)""")),
    ("markdown", "", Template("""\
**How to read it.** Say here what to look at first.

## Is it so?""")),
    ("code", "", Template("""verdicts = element.judge(**{"C1": compared.claim(error)})""")),
    ("markdown", "", Template("**Try it.** `gfm run $id -p lr 0.15`")),
]


def new_element(root: Path, name: str, section: str = "central-flows", title: str = "") -> list[Path]:
    """Write a new element's notebook, its register entry and its profile; return the three files.

    All three are written, or none.

    Args:
        root: the project's folder.
        name: the element's id, also the notebook's file name and the label of its figure.
        section: the part of the book it belongs to; a folder below ``notebooks/``.
        title: heading of the page; by default the name in words.

    Raises:
        InputError: The name contains more than lower-case letters, digits and single hyphens, or is taken.
        UnknownNameError: The section is unknown.
        UnreadableFileError: ``profiles.yml`` cannot be read.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 60 or yaml.safe_load(name) != name:
        raise InputError(
            "An element's name is made of at most 60 small letters, digits and single hyphens, and is no word "
            f"with a meaning in YAML (yes, null, ...); got {name!r}."
        )
    known("section", section, SECTIONS)
    file = root / "notebooks" / section / f"{name}.ipynb"
    taken = {e.id for e in Register.load(root)} | {f.stem for f in (root / "notebooks").rglob("*.ipynb")}
    if name in taken:
        raise InputError(f"The book has an element or a notebook {name!r} already; choose another name.")
    if not all(letter.isprintable() or letter.isspace() for letter in title):
        raise InputError(f"A title is plain text, but it is {title!r}.")
    title = " ".join(title.split()) or name.replace("-", " ").capitalize()
    words = {"id": name, "section": section, "notebook": f"{section}/{name}.ipynb"}
    cells = [_cell(number, kind, tag, text.substitute(words, title=title))
             for number, (kind, tag, text) in enumerate(_CELLS)]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    entry = _ENTRY.substitute(words, title=json.dumps(title, ensure_ascii=False))
    profiles, register = root / "notebooks" / "profiles.yml", root / "book" / "elements.yml"
    profile_names = read_yaml(profiles) or {}
    if words["notebook"] in profile_names:
        raise InputError(f"{profiles} has a profile of {words['notebook']} already; remove it or choose another name.")
    texts = {
        file: json.dumps(notebook, indent=1, ensure_ascii=False) + "\n",
        profiles: profiles.read_text(encoding="utf-8").rstrip("\n") + "\n" + _PROFILE.substitute(words),
        register: register.read_text(encoding="utf-8").rstrip("\n") + "\n" + entry,
    }
    Register.read(texts[register], root)
    with ExitStack() as files:  # all are written before the first is moved into place
        for path, text in texts.items():
            files.enter_context(replacing(path)).write_text(text, encoding="utf-8")
    return list(texts)


def _cell(number: int, kind: str, tag: str, text: str) -> dict:
    cell = {"cell_type": kind, "id": f"cell-{number:02}", "metadata": {"tags": [tag]} if tag else {}, "source": text}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}
