"""What pages say about themselves, with and without public addresses, and the page for lost readers."""

import json
import re
import shutil
import xml.etree.ElementTree as xml
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from docutils.core import publish_doctree
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from gfm.book.site.addresses import addresses, root_of
from gfm.book.site.links import check_site
from gfm.book.site.metadata import first_sentence, plain_tex, site_map
from gfm.book.site.policy import protect

ROOT = Path(__file__).parents[2]
ADDRESS, REPOSITORY = "https://someone.example/a-book/", "https://github.com/someone/a-book"
THEME = yaml.safe_load((ROOT / "book" / "_config.yml").read_text())["sphinx"]["config"]["html_theme_options"]
NOTEBOOK = r"""# One & two

{.runline}
Profile.

**What is seen.** Whether the rate $\eta$ is "small". Then more.

![A line](line.svg)
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M0 0h9v9z"/></svg>'
PNG = b"\x89PNG that hosts show in a preview"


class Head(HTMLParser):
    def __init__(self, file: Path):
        super().__init__()
        self.meta: dict[str, str] = {}
        self.canonical = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "meta" and "content" in found:
            self.meta[found.get("name") or found.get("property")] = found["content"]
        if tag == "link" and found.get("rel") == "canonical":
            self.canonical = found["href"]


def build(folder: Path, address: str, repository: str) -> Path:
    """Two pages and the extension, with the book's theme and the pages' policy."""
    source = folder / "src"
    (source / "notebooks").mkdir(parents=True)
    (source / "index.md").write_text("# A book\n\nIt has two pages.\n\n![A square](front.svg)\n\n"
                                     "```{toctree}\nnotebooks/one\n```\n")
    (source / "notebooks" / "one.ipynb").write_text(json.dumps(
        {"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": NOTEBOOK}],
         "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
         "nbformat": 4, "nbformat_minor": 5}))
    for picture in ("front.svg", "notebooks/line.svg"):
        (source / picture).write_text(SVG)
    (source / "notebooks" / "line.png").write_bytes(PNG)
    (source / "conf.py").touch()
    shutil.copyfile(ROOT / "book" / "references.bib", source / "references.bib")
    settings = {"extensions": ["myst_nb", "gfm.book.site.metadata", "gfm.book.site.mathematics"],
                "html_math_renderer": "gfm_katex", "html_theme": "sphinx_book_theme",
                "html_title": "A book", "html_baseurl": address, "nb_execution_mode": "off",
                "myst_enable_extensions": ["dollarmath", "attrs_block"],
                "html_theme_options": THEME | {"repository_url": repository, "repository_branch": "main"}}
    html = folder / "html"
    with docutils_namespace():
        Sphinx(str(source), str(source), str(html), str(folder / "trees"), "html", settings, status=None,
               warningiserror=True).build()
    protect(html)
    return html


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    """Pages whose addresses are configured."""
    return build(tmp_path_factory.mktemp("known"), ADDRESS, REPOSITORY)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory) -> Path:
    """Pages without any address."""
    return build(tmp_path_factory.mktemp("unknown"), "", "")


def test_a_page_is_described_by_its_first_sentence_and_a_notebooks_with_its_title(unknown):
    assert Head(unknown / "index.html").meta["description"] == "It has two pages."
    found = Head(unknown / "notebooks/one.html").meta
    assert found["description"] == found["og:description"] == 'One & two: Whether the rate η is “small”.'
    assert found["og:title"] == "One & two" and found["og:site_name"] == "A book"
    assert Head(unknown / "genindex.html").meta["description"] == "A book"


def test_the_picture_is_the_pages_first_figure_else_the_front_pages(unknown, known):
    assert Head(unknown / "notebooks/one.html").meta["og:image"] == "../_images/line-preview.png"
    assert Head(unknown / "search.html").meta["og:image"] == "_images/front.svg"
    assert Head(known / "notebooks/one.html").meta["og:image"] == f"{ADDRESS}_images/line-preview.png"
    assert (known / "_images" / "line-preview.png").read_bytes() == PNG
    assert Head(known / "notebooks/one.html").meta["twitter:card"] == "summary_large_image"


def test_without_addresses_nothing_names_one(unknown):
    text = "\n".join(page.read_text() for page in unknown.glob("*.html"))
    for word in ("canonical", "og:url", "mybinder", "colab", "issues/new", "github.com/someone"):
        assert word not in text, word
    assert not (unknown / "sitemap.xml").exists()


def test_a_public_address_makes_pages_canonical_and_a_site_map(known):
    page = Head(known / "notebooks/one.html")
    assert page.canonical == page.meta["og:url"] == f"{ADDRESS}notebooks/one.html"
    found = [loc.text for loc in xml.parse(known / "sitemap.xml").findall(".//{*}loc")]
    assert found == [f"{ADDRESS}index.html", f"{ADDRESS}notebooks/one.html"]


def test_a_page_offers_its_own_entry_for_bibtex(known, unknown):
    text = (known / "notebooks/one.html").read_text()
    assert "Cite this page" in text and "@misc{gfmbook-one," in text and r"{One \&amp; two}" in text
    assert f"url    = {{{ADDRESS}notebooks/one.html}}" in text
    assert "url    =" not in (unknown / "notebooks/one.html").read_text()
    assert "Cite this page" not in (unknown / "search.html").read_text()


def test_a_site_maps_addresses_are_escaped(tmp_path):
    (tmp_path / "a & b.html").touch()
    assert "<loc>https://a.example/a%20%26%20b.html</loc>" in site_map(tmp_path, "https://a.example")


def test_a_repository_brings_launch_buttons_and_a_link_for_feedback(known):
    text = (known / "notebooks/one.html").read_text()
    for link in ("https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/notebooks/one.ipynb",
                 "https://colab.research.google.com/github/someone/a-book/blob/main/notebooks/one.ipynb",
                 f"{REPOSITORY}/issues/new?"):
        assert link in text, link
    front = (known / "index.html").read_text()
    assert "mybinder" not in front and f"{REPOSITORY}/issues/new?" in front


@pytest.mark.parametrize("fixture, root", [("known", "/a-book/"), ("unknown", "/")])
def test_the_page_for_lost_readers_works_under_any_address(fixture, root, request):
    html = request.getfixturevalue(fixture)
    text = (html / "404.html").read_text()
    leads = set(re.findall(r'\b(?:href|src|action)="([^"#:]+)["#?]', text))
    assert leads and all(link.startswith(root) for link in leads), leads
    assert f'href="{root}notebooks/one.html"' in text and f'data-content_root="{root}"' in text
    assert 'href="#main-content"' in text and "<h1>There is no such page" in text
    assert not [problem for problem in check_site(html, root) if problem.startswith("404")]


def test_the_checker_sees_a_broken_link_from_the_root_and_a_lost_picture(known, tmp_path):
    html = tmp_path / "html"
    shutil.copytree(known, html)
    page = html / "404.html"
    page.write_text(page.read_text().replace("/a-book/notebooks/one.html", "/a-book/gone.html")
                    .replace(f"{ADDRESS}_images/front.svg", "_images/gone.svg"))
    found = "\n".join(check_site(html, "/a-book/"))
    assert "404.html: links to /a-book/gone.html" in found and "loads _images/gone.svg" in found


@pytest.mark.parametrize("tex, plain", [
    (r"w_{t+1} = w_t - \eta \nabla L(w_t)", "w_(t+1) = w_t - η∇L(w_t)"),
    (r"\lambda_1, \dots, \Sigma", "λ_1, …, Σ"),
    (r"\frac{2}{\eta}\, x", "2/η x"),
])
def test_formulas_become_plain_text(tex, plain):
    assert plain_tex(tex) == plain


def test_the_first_sentence_has_no_citation_and_no_label():
    def said(text: str) -> str:
        return first_sentence(publish_doctree(f"Title\n=====\n\nSub\n---\n\n{text}\n"))

    assert said("**Why.** It says [Cohen et al., 2025] how far. More.") == "It says how far."
    assert said("- a list of words here\n\nIt follows these, e.g. so: ``x y``:") == "It follows these, e.g. so: x y"
    assert said("- only a list of words") == ""


def test_addresses_come_from_the_configuration_and_reach_sphinx(tmp_path):
    assert addresses(ROOT) == ("", "")
    text = (ROOT / "book" / "_config.yml").read_text()
    file = tmp_path / "book" / "_config.yml"
    file.parent.mkdir()
    file.write_text(text.replace('html_baseurl: ""', f"html_baseurl: {ADDRESS}")
                    .replace('repository_url: ""', f"repository_url: {REPOSITORY}"))
    assert addresses(tmp_path) == (ADDRESS, REPOSITORY)
    found, _ = get_final_config(user_yaml=file, cli_config={"latex_individualpages": False})
    assert found["html_baseurl"] == ADDRESS and found["html_theme_options"]["repository_url"] == REPOSITORY
    assert "gfm.book.site.metadata" in found["extensions"]


def test_the_root_of_a_site_is_its_path():
    assert root_of(ADDRESS) == root_of(ADDRESS[:-1]) == "/a-book/" and root_of("") == "/"
