"""What the first pages say of the book: failures first, verdict words defined, pages in order, words found."""

import json
import re
from pathlib import Path

import pytest

from gfm.book import Element
from gfm.book.register import Register
from gfm.book.site import build as site
from gfm.book.site import overview
from gfm.book.site.contents import index_entries, table_of_contents
from gfm.book.site.pages import badge
from gfm.book.site.status import status_page
from gfm.book.verdicts import VERDICTS

ROOT = Path(__file__).parents[2]
BOOK = Register.load(ROOT)
PROSE = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "book").glob("*.md")}
VALUES = {"T1": -0.1, "T2": 0.2, "T3": 2, "T4": 30}


@pytest.fixture
def judged(project):
    Element("toy", profile="book").judge(**VALUES)
    return Register.load(project)


def test_failures_are_listed_by_page_with_link_value_and_bound(judged):
    staged = {"part/toy.ipynb"}
    words = overview.numbers(judged, staged)
    assert words["not_reproduced"] == (
        "- [A decaying line](notebooks/part/toy.ipynb)\n"
        "  - It ends below minus one. [last value: 2 (bound: at most −1)]{.provenance}")
    assert "shape" not in words["not_reproduced"] and overview.by_page(judged, staged, "not judged") == "None."
    assert words["result:toy:T3"] in words["finding:toy:T3"] and "ends below" not in words["result:toy:T3"]


def test_claims_and_pages_are_counted_and_elements_are_not(judged):
    words = overview.numbers(judged, set())
    counted = {name: words[name] for name in ("claims", "judged", "holds", "shape", "fails", "open", "pages",
                                              "pages_failing")}
    assert counted == dict(claims="4", judged="3", holds="1", shape="1", fails="1", open="1", pages="1",
                           pages_failing="1")


def test_a_claim_without_a_value_says_why_in_its_place(judged):
    page = status_page(judged, set())
    assert "number of steps: the run is too short (bound: at least 10)" in page


def test_the_status_page_begins_with_failures_and_folds_the_rest(judged):
    page = status_page(judged, set())
    order = [page.index(words) for words in ("## What fails", "It ends below", "## What holds in shape only",
                                             "It ends near", "## Every claim", "<details", "## All elements")]
    assert order == sorted(order)
    assert "fails: 1 · holds in shape only: 1 · holds: 1 · not run: 1</span>" in page
    assert "unknown" not in page.partition("## Every claim")[2]
    assert "the paper: -1.5 (read off a plot" in page


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_defined_once_and_leads_there(verdict):
    label = f"verdict-{verdict.replace(' ', '-')}"
    assert f"<{label}>" in badge(verdict)
    assert PROSE["how-to-read"].count(f"({label})=\n### {verdict.capitalize()}\n") == 1


def test_a_word_that_is_no_verdict_leads_nowhere():
    assert badge("not written yet") == "[not written yet]{.verdict .not-written-yet}"


@pytest.mark.parametrize("name", sorted(PROSE))
def test_no_page_calls_a_profile_the_papers_own_settings(name):
    assert not re.search(r"papers?\W*s?\W* own\s+settings", PROSE[name])


def test_every_term_that_pages_link_to_is_in_the_glossary_and_most_are():
    known = set(re.findall(r"(?m)^([a-zA-Z][^\n.]*)\n  \S", PROSE["glossary"]))
    assert len(known) >= 45
    asked = {re.sub(r".*<(.*)>", r"\1", term) for term in re.findall(r"{term}`([^`]+)`", " ".join(PROSE.values()))}
    assert len(asked) > 15 and asked <= known


def pages_of(toc) -> dict[str, list[str]]:
    return {part["caption"]: [chapter["file"] for chapter in part["chapters"]] for part in toc["parts"]}


def test_the_parts_read_as_chapters_and_the_package_comes_last():
    made = {"status", "benchmarks"}
    parts = pages_of(table_of_contents(BOOK, set(BOOK.notebooks()), set(PROSE) | made))
    found = [page for pages in parts.values() for page in pages]
    notebooks = {f"notebooks/{Path(n).with_suffix('').as_posix()}" for n in BOOK.notebooks()}
    assert sorted(found) == sorted(notebooks | (set(PROSE) - {"index"}) | made)
    first = [Path(page).name for page in parts["Central flows"]]
    for before, after in (("central-flows", "gd-quadratics"), ("gd-quadratics", "gd-valley"),
                          ("gd-edge-of-stability", "gd-central-flow"), ("gd-predictions", "srmsprop-edge")):
        assert first.index(before) < first.index(after)
    assert sum(page.endswith("atlas") for page in parts["Evidence"]) == 4 and "limits" in parts["Evidence"]
    assert list(parts)[-1] == "For developers" and {"api", "benchmarks"} <= set(parts["For developers"])


def test_a_page_that_the_order_does_not_name_is_not_lost(project):
    parts = pages_of(table_of_contents(Register.load(project), {"part/toy.ipynb"}, {"index", "both", "of-its-own"}))
    assert parts == {"Both flows on one ground": ["both", "notebooks/part/toy"], "For developers": ["of-its-own"]}


def test_words_for_the_search_name_pages_that_are_there():
    entries = index_entries(BOOK)
    of = {Path(file).stem: text for file, text in entries.items()}
    assert "! A4," in of["gd-central-flow"] and "{index} A4," in of["gd-predictions"]
    assert "! B1," in of["srmsprop-central-flow"]
    assert " B1," in of["srmsprop-edge"] and "! B1," not in of["srmsprop-edge"]  # it has B1-optimizer, and comes first
    assert "! G14," in of["gd-central-flow"] and "! RMSProp" in of["rmsprop-edge"] and "! Adam" in of["beyond-rmsprop"]
    mains = [word for text in entries.values() for word in re.findall(r"! ([^,\n]+)", text)]
    assert len(mains) == len(set(mains))


def test_the_first_page_shows_the_run_that_its_page_shows(project, monkeypatch):
    register = project / "book/elements.yml"
    register.write_text(register.read_text().replace("- id: toy", "- id: gd-central-flow"))
    loaded = Register.load(project)
    source = project / "src"
    source.mkdir()
    shown = {"part/toy.ipynb": "smoke"}
    assert site.picture(loaded, source, shown) == ""
    data = project / "build/smoke/data/toy/gd-central-flow.json"
    data.parent.mkdir(parents=True)
    names = ("gradient descent", "the stable flow", "the central flow")
    data.write_text(json.dumps({"step": [0, 1, 2]} | {f"sharpness of {name}": [1, 3, 2] for name in names}))
    text = site.picture(loaded, source, shown)
    assert ":target: notebooks/part/toy.html" in text and ":alt: Sharpness" in text
    drawing = (source / "front.svg").read_text()
    assert drawing.startswith("<?xml") and len(drawing) < 200_000
    assert site.picture(loaded, source, {}) == ""
