"""The files that say how to cite are valid and agree with each other and the package; a page has its own entry."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from pybtex.database import parse_string

import gfm
from gfm.book.register import Register
from gfm.book.site.bibliography import label
from gfm.book.site.citing import BOOK, bibtex, entries, page_entry, with_letters

ROOT = Path(__file__).parents[1]
CITATION = yaml.load((ROOT / "CITATION.cff").read_text(), yaml.BaseLoader)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BIB = entries(ROOT / "book")
TEXT = {"type": "string", "minLength": 1}
DAY = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"}
NAMES = {"type": "array", "minItems": 1, "items": {"anyOf": [
    {"type": "object", "properties": {"name": TEXT}, "required": ["name"], "additionalProperties": False},
    {"type": "object", "properties": {"family-names": TEXT, "given-names": TEXT}, "additionalProperties": False,
     "required": ["family-names", "given-names"]}]}}
IDENTIFIERS = {"type": "array", "items": {"type": "object", "required": ["type", "value"], "properties": {
    "type": {"enum": ["doi", "url", "swh", "other"]}, "value": TEXT}, "additionalProperties": False}}
# What this project uses of the Citation File Format 1.2.0.
SCHEMA = {
    "type": "object", "additionalProperties": False,
    "required": ["cff-version", "message", "title", "authors", "version", "date-released", "keywords", "references"],
    "properties": {
        "cff-version": {"const": "1.2.0"}, "message": TEXT, "title": TEXT, "abstract": TEXT, "version": TEXT,
        "license": TEXT, "type": {"enum": ["software", "dataset"]}, "authors": NAMES, "date-released": DAY,
        "url": TEXT, "repository-code": TEXT, "doi": TEXT, "identifiers": IDENTIFIERS,
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        "references": {"type": "array", "items": {
            "type": "object", "required": ["authors", "title", "type"], "additionalProperties": False,
            "properties": {"type": {"enum": ["article", "conference-paper", "software"]}, "title": TEXT,
                           "authors": NAMES, "year": {"type": "string", "pattern": r"^\d{4}$"}, "url": TEXT,
                           "identifiers": IDENTIFIERS, "doi": TEXT, "conference": {
                               "type": "object", "required": ["name"], "properties": {"name": TEXT}}}}}}}


def test_the_citation_file_is_valid():
    jsonschema.validate(CITATION, SCHEMA)


@pytest.mark.parametrize("change", [
    lambda c: c.pop("authors"), lambda c: c.update({"date-released": "tomorrow"}), lambda c: c.update(keyword=["a"]),
    lambda c: c["references"][0].pop("title"), lambda c: c["references"][0].update(type="paper")])
def test_the_schema_sees_a_fault(change):
    copy = json.loads(json.dumps(CITATION))
    change(copy)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(copy, SCHEMA)


def test_it_agrees_with_the_package():
    assert CITATION["version"] == gfm.__version__ == PROJECT["version"]
    assert [a["name"] for a in CITATION["authors"]] == [a["name"] for a in PROJECT["authors"]]
    assert CITATION["keywords"] == PROJECT["keywords"] and CITATION["license"] == PROJECT["license"]
    year = re.search(r"year *= \{(\d+)\}", BIB[BOOK])[1]
    assert CITATION["date-released"].startswith(f"{year}-") and gfm.__version__ in BIB[BOOK]
    released = re.search(rf"^## {re.escape(gfm.__version__)} \((.+)\)", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    assert released in ("unreleased", CITATION["date-released"])


def test_both_papers_are_referred_to_as_in_the_bibliography():
    for reference, key in zip(CITATION["references"], ("cohen2024central", "shou2025gfm"), strict=True):
        (identifier,) = reference["identifiers"]
        assert f"{{{reference['title']}}}" in BIB[key] and f"{{{identifier['value']}}}" in BIB[key]
        assert reference["url"] == f"https://arxiv.org/abs/{identifier['value'].removeprefix('arXiv:')}"
        for author in reference["authors"]:
            assert f"{author['family-names']}, {author['given-names']}" in BIB[key]


def test_zenodo_is_told_the_same():
    told = json.loads((ROOT / ".zenodo.json").read_text())
    assert told == {
        "title": CITATION["title"], "description": CITATION["abstract"], "upload_type": CITATION["type"],
        "version": CITATION["version"], "publication_date": CITATION["date-released"], "license": CITATION["license"],
        "creators": [{"name": a["name"]} for a in CITATION["authors"]], "keywords": CITATION["keywords"],
        "related_identifiers": [{"identifier": i["value"], "relation": "isDerivedFrom", "scheme": "arxiv"}
                                for r in CITATION["references"] for i in r["identifiers"]]}


@pytest.mark.parametrize("address, url", [("", None), ("https://a.example/b/", "https://a.example/b/notebooks/x/y.html")])
def test_the_entry_of_a_page_is_bibtex(address, url):
    found = parse_string(page_entry(BIB[BOOK], "notebooks/x/y", "Gains of 5 % & more", address), "bibtex").entries
    entry = found["gfmbook-y"]
    assert entry.fields["title"] == r"Gains of 5 \% \& more" and entry.fields.get("url") == url
    assert entry.fields["year"] == "2026" and gfm.__version__ in entry.fields["note"]
    assert str(entry.persons["author"][0]) == "{The authors of gfm}"


def test_the_entries_of_a_notebook_begin_with_its_page():
    register = Register.load(ROOT)
    found = parse_string(bibtex(register, "gd-quadratics"), "bibtex").entries
    assert list(found)[:3] == ["gfmbook-gd-quadratics", BOOK, "cohen2024central"]
    assert found["gfmbook-gd-quadratics"].fields["title"] == register["gd-quadratics"].title
    assert "gfmbook-" not in bibtex(register)


def test_the_page_says_what_journals_ask_for():
    text = " ".join((ROOT / "book" / "how-to-cite.md").read_text().split())
    for words in ("help of large language models", "Every number is computed by the notebooks",
                  "responsibility for the content lies with the authors"):
        assert words in text


def test_the_list_of_references_names_works_as_the_text_cites_them():
    works = parse_string(with_letters(BIB), "bibtex").entries
    labels = {key: label(work) for key, work in works.items()}
    assert labels["shou2025gfm"] == "Shou et al., 2025a" and labels["regis2026rod"] == "Regis and Chewi, 2026"
    assert labels["aitken1926"] == "Aitken, 1926" and labels[BOOK] == "The authors of gfm, 2026"
    assert len(set(labels.values())) == len(labels)


def test_no_page_names_a_preprint_that_it_does_not_cite():
    prose = [*(ROOT / "notebooks").glob("*/*.ipynb"), *(ROOT / "book").glob("*.md")]
    bare = {path.name: found for path in prose
            if (found := re.findall(r"arXiv:? ?\d{4}\.\d{5}", path.read_text(encoding="utf-8")))}
    assert bare == {}


def test_two_works_of_one_author_and_year_are_told_apart_on_the_pages():
    own = entries(ROOT / "book")
    shown = with_letters(own)
    assert "year   = {2025a}" in shown and "year   = {2025b}" in shown
    assert shown.count("2025a") == 1 and "{2021a}" not in shown  # one alone keeps its year
    assert all("2025a" not in entry for entry in own.values())
    assert [m for m in re.findall(r"@\w+\{([^,]+),", shown)] == list(own)
