"""One language of figures: one width, three sizes of type, and no colour from outside the style."""

import ast
import base64
import json
import struct
from pathlib import Path

import pytest

from gfm.figures import style

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "gfm" / "figures").glob("*.py"))
NOTEBOOKS = sorted(p for p in (ROOT / "notebooks").glob("*/*.ipynb") if not p.name.startswith("."))
#: Arguments of matplotlib's functions that take a colour, and those that take a size of type.
COLOUR = {"color", "colors", "edgecolor", "facecolor", "markerfacecolor", "markeredgecolor", "c"}
TYPE = {"fontsize", "title_fontsize", "labelsize", "titlesize"}


def _sources() -> list[tuple[str, str]]:
    """Every module of figures but the style and the drawings made of HTML, and the code of every notebook."""
    modules = [(p.name, p.read_text(encoding="utf-8")) for p in MODULES if p.name not in ("style.py", "slider.py")]
    books = []
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        books.append((path.name, "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")))
    return [*modules, *books]


def _written(tree: ast.AST) -> list[tuple[str, ast.expr]]:
    """Names and values of keyword arguments and of entries of dictionaries."""
    calls = [(k.arg, k.value) for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg]
    entries = [(k.value, v) for n in ast.walk(tree) if isinstance(n, ast.Dict)
               for k, v in zip(n.keys, n.values, strict=True) if isinstance(k, ast.Constant)]
    return [(name, value) for name, value in [*calls, *entries] if isinstance(name, str)]


def faults(source: str) -> list[str]:
    """What a source draws in a language of its own."""
    found = []
    for name, value in _written(ast.parse(source)):
        literal = value.value if isinstance(value, ast.Constant) else None
        if name in COLOUR and isinstance(literal, str) and literal not in ("none", ""):
            found.append(f"{name}={literal!r}: take a colour of gfm.figures.style")
        if name in TYPE and isinstance(literal, (int, float)):
            found.append(f"{name}={literal}: take a size of gfm.figures.style")
        if name == "figsize" and "WIDTH" not in ast.unparse(value):
            found.append(f"figsize={ast.unparse(value)}: take style.subplots, or the width style.WIDTH")
    return found


@pytest.mark.parametrize(("name", "source"), _sources(), ids=[name for name, _ in _sources()])
def test_colours_sizes_and_widths_come_from_the_style(name, source):
    assert not faults(source)


@pytest.mark.parametrize("source", [
    "ax.plot(x, color='red')", "look = {'color': '#123456'}", "ax.text(0, 0, 'a', fontsize=7)",
    "plt.subplots(figsize=(5, 3))",
])
def test_another_language_is_noticed(source):
    assert len(faults(source)) == 1


def _inches(png: bytes) -> float:
    """Width of a picture, from its pixels and its resolution."""
    width = struct.unpack(">I", png[16:20])[0]
    per_metre = struct.unpack(">I", png[png.index(b"pHYs") + 4:][:4])[0]
    return width / (per_metre * 0.0254)


def _pictures(notebook: Path) -> list[bytes]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [o.get("data", {}) for c in cells for o in c.get("outputs", [])]
    return [base64.b64decode("".join(data["image/png"])) for data in outputs if "image/png" in data]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def test_every_figure_of_the_book_has_its_width(notebook):
    assert [w for w in map(_inches, _pictures(notebook)) if abs(w - style.WIDTH) > 0.03] == []


def test_the_book_has_figures_to_look_at():
    assert sum(len(_pictures(notebook)) for notebook in NOTEBOOKS) > 60
