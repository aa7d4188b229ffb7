"""Pages are printed in the book's order; what cannot be printed is said in one sentence."""

import zipfile
from pathlib import Path

import pytest
import yaml

from gfm.book.site.pdf import browser, print_pages
from gfm.errors import GfmError, InputError

PRINTER = """#!/bin/sh
for word in "$@"; do case "$word" in --print-to-pdf=*) file="${word#*=}";; file://*) page="$word";; esac; done
case "$page" in *broken*) echo "no such luck" >&2; exit 0;; esac
printf '%%PDF-1.4 %s' "$page" > "$file"
"""


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """Pages, their order, and a stand-in for the browser."""
    program = tmp_path / "printer"
    program.write_text(PRINTER)
    program.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(program))
    site = tmp_path / "site"
    contents = {"root": "index", "parts": [{"caption": "One", "chapters": [{"file": "notebooks/part/toy.ipynb"}]},
                                           {"caption": "Two", "chapters": [{"file": "limits"}]}]}
    for name in ("index", "notebooks/part/toy", "limits", "search"):
        page = site / "html" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.touch()
    (site / "src").mkdir()
    (site / "src" / "_toc.yml").write_text(yaml.safe_dump(contents))
    return site


def test_all_pages_of_the_contents_are_printed_in_order(site, tmp_path):
    made = print_pages(site, tmp_path / "pdf")
    assert [file.name for file in made] == ["01-index.pdf", "02-toy.pdf", "03-limits.pdf"]
    assert made[1].read_text().endswith("/html/notebooks/part/toy.html")
    with zipfile.ZipFile(tmp_path / "pdf.zip") as archive:
        assert archive.namelist() == [f"pdf/{file.name}" for file in made]


def test_a_page_that_cannot_be_printed_is_named(site, tmp_path):
    text = (site / "src" / "_toc.yml").read_text()
    (site / "src" / "_toc.yml").write_text(text.replace("limits", "broken"))
    with pytest.raises(GfmError, match=r"broken.html could not be printed: no such luck"):
        print_pages(site, tmp_path / "pdf")


def test_without_pages_or_browser_it_says_what_to_do(site, tmp_path, monkeypatch):
    (site / "html" / "index.html").unlink()
    with pytest.raises(InputError, match="gfm build"):
        print_pages(site, tmp_path / "pdf")
    monkeypatch.delenv("CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="CHROMIUM"):
        browser()
