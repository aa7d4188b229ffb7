"""The pages on the package: every public name is described, and every docstring can be set."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import gfm

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "book").glob("api-*.md"))
MODULES = [name for page in PAGES for name in re.findall(r"automodule:: (\S+)", page.read_text())]


@pytest.fixture(scope="module")
def html(tmp_path_factory) -> Path:
    """The pages alone, built as in the book: a docstring that cannot be set is an error."""
    folder = tmp_path_factory.mktemp("api")
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())["sphinx"]["config"]
    wanted = {key: value for key, value in config.items() if key.startswith(("napoleon_", "nitpick_"))}
    wanted["extensions"] = ["myst_parser", *(e for e in config["extensions"] if e.startswith("sphinx.ext."))]
    (folder / "conf.py").write_text("".join(f"{key} = {value!r}\n" for key, value in wanted.items()))
    for page in (ROOT / "book" / "api.md", *PAGES):
        (folder / page.name).write_text(page.read_text())
    (folder / "index.md").write_text("# Index\n\n```{toctree}\n:glob:\napi*\n```\n")
    words = ["-m", "sphinx", "-b", "html", "-W", "-n", "--keep-going", "-q", ".", "html"]
    built = subprocess.run([sys.executable, *words],
                           cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_public_name_is_on_a_page(html):
    text = "".join(page.read_text() for page in html.glob("api-*.html"))
    modules = map(importlib.import_module, MODULES)
    missing = [f"{module.__name__}.{name}" for module in modules for name in module.__all__
               if getattr(getattr(module, name), "__module__", "").startswith("gfm.")
               and not re.search(rf'id="gfm\.[\w.]*\b{name}"', text)]
    assert not missing


def test_every_part_of_the_package_that_has_a_public_face_has_a_page():
    inside = {"curvature", "experiments", "figures", "measures", "symmetric"}  # of use to this book's notebooks only
    parts = {name for name in gfm.__all__ if name.islower() and not name.startswith("_")} - inside
    assert parts <= {module.removeprefix("gfm.") for module in MODULES}
