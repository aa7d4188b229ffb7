"""The archives hold what the pages show, the claims are the register's, and the same book gives the same bytes."""

import hashlib
import json
import math
import shutil
import zipfile
from pathlib import Path

import pytest
from sealed import rewritten
from test_site import NAME

from gfm.book.outputs import markdown_table
from gfm.book.register import Register
from gfm.book.site.downloads import claims, write_downloads
from gfm.book.verdicts import best


@pytest.fixture
def release(whole, monkeypatch):
    """The files as they lie in the built site."""
    monkeypatch.setenv("GFM_BUILD", str(whole / "build"))
    return whole / "build" / "site" / "html" / "release"


def test_the_archive_of_notebooks_holds_each_as_it_was_run(whole, release):
    with zipfile.ZipFile(release / "notebooks.zip") as archive:
        assert archive.namelist() == [f"book/{NAME}"]
        assert archive.read(f"book/{NAME}") == (whole / "build" / "book" / "run" / NAME).read_bytes()


def test_the_archive_of_figures_has_drawings_and_data(whole, release):
    with zipfile.ZipFile(release / "figures.zip") as archive:
        assert archive.namelist() == [f"book/part/toy/{name}" for name in
                                      ("toy-line.csv", "toy-line.json", "toy-line.svg", "toy-table.csv",
                                       "toy-table.json")]
        drawn = whole / "build" / "book" / "figures" / "toy" / "toy-line.svg"
        assert archive.read("book/part/toy/toy-line.svg") == drawn.read_bytes()


def test_every_claim_has_value_bound_and_verdict_and_its_run(whole, release):
    data = json.loads((release / "claims.json").read_text())
    (element,) = data["elements"]  # the other one is not written
    stored = best(register := Register.load(whole), register["toy"])
    assert element["profile"] == "book" and element["versions"] == stored.meta["versions"]
    assert element["commit"] == stored.meta["commit"] and "torch" in element["versions"]
    found = {claim["id"]: claim for claim in element["claims"]}
    assert list(found) == ["T1", "T2", "T3", "T4"]
    for v in stored.verdicts:
        claim = found[v.claim.id]
        assert (claim["value"], claim["verdict"], claim["bound"]) == (v.value, v.verdict, str(v.bound))
    assert found["T3"]["verdict"] == "fails" and found["T4"]["value"] is None


def test_claims_never_run_and_infinite_values_can_be_written(project, whole):
    never = claims(Register.load(project))["elements"][0]
    assert never["profile"] is None and {c["verdict"] for c in never["claims"]} == {"not run"}
    shutil.copytree(whole / "build" / "book", project / "build" / "book")
    file = project / "build" / "book" / "verdicts" / "toy.json"
    rewritten(file, lambda stored: stored["claims"][0].update(value="inf"))
    found = json.loads(json.dumps(claims(Register.load(project)), allow_nan=False))
    assert float(found["elements"][0]["claims"][0]["value"]) == math.inf


def test_the_checksums_are_right_and_the_page_lists_the_files(release):
    sums = dict(reversed(line.split("  ")) for line in (release / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {"notebooks.zip", "figures.zip", "claims.json"}
    page = (release.parent / "downloads.html").read_text()
    for name, digest in sums.items():
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == digest
        assert f'href="release/{name}"' in page
    assert "1 notebooks as executed" in page and "4 claims of 1 elements" in page


def test_the_same_book_gives_the_same_bytes_and_both_runs(whole, tmp_path):
    folders = []
    for copy in ("a", "b"):
        source = tmp_path / copy
        for stem in ("toy", "toy-paper"):
            shutil.copytree(whole / "build" / "site" / "src" / "downloads" / "toy", source / "downloads" / stem)
        table = write_downloads(Register.load(whole), source, {NAME: "book"})
        assert table.startswith(markdown_table(("File", "What it holds", "Size"), []).splitlines()[0])
        folders.append({f.name: f.read_bytes() for f in (source / "extra" / "release").glob("*")})
    assert folders[0] == folders[1]
    with zipfile.ZipFile(tmp_path / "a" / "extra" / "release" / "notebooks.zip") as archive:
        assert [Path(name).parts[0] for name in archive.namelist()] == ["book", "paper"]
        assert {member.date_time[0] for member in archive.infolist()} == {1980}  # not the time of the build
