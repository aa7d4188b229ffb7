"""The pages that promise sixty lines keep their promise, and use nothing of the package in them."""

import ast
from pathlib import Path

import pytest

from gfm.book.runs.notebooks import Notebook, source_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
PAGES = sorted(page.relative_to(FOLDER).as_posix() for page in FOLDER.rglob("*-in-sixty-lines.ipynb"))


def sixty_lines(name: str) -> str:
    cells = [c for c in Notebook(ROOT, name).cells if "sixty-lines" in c["metadata"].get("tags", ())]
    assert len(cells) == 1
    return source_of(cells[0])


@pytest.mark.parametrize("name", PAGES)
def test_it_is_sixty_lines_of_plain_code(name):
    code = sixty_lines(name)
    assert 30 <= sum(bool(line.strip()) for line in code.splitlines()) <= 60
    tree = ast.parse(code)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported and not any(module.split(".")[0] == "gfm" for module in imported)
    assert not any(isinstance(node, ast.Name) and node.id == "gfm" for node in ast.walk(tree))


def test_there_is_such_a_page_in_both_parts():
    assert {name.split("/")[0] for name in PAGES} == {"central-flows", "gradient-flow-matching"}
