"""Kept results are found, reused, shown, and limited in size."""

import json
import shutil

import pytest

from gfm.book import verdicts
from gfm.book.register import Register
from gfm.book.runs import committed
from gfm.book.site.build import build_site
from gfm.errors import InputError, UnknownNameError, UnreadableFileError

NAME = "part/toy.ipynb"


@pytest.fixture
def kept(ran, project):
    """The toy's book run, kept; then the build folder is thrown away, as in a fresh checkout."""
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    committed.keep(Register.load(project), NAME, "book")
    shutil.rmtree(project / "build")
    return project


def test_a_fresh_checkout_shows_the_kept_run(kept):
    register = Register.load(kept)
    stored = verdicts.best(register, register["toy"])
    assert stored.profile == "book" and stored.meta["committed"] and not stored.stale
    site = build_site(register)
    assert site.profiles == {NAME: "book"} and site.problems == []
    text = (site.index.parent / "notebooks/part/toy.html").read_text()
    assert "toy-line.csv" in text and "60 steps" in text


def test_its_stored_result_is_reused(kept):
    from gfm.book.building import bring_up_to_date

    assert not bring_up_to_date(Register.load(kept), "book").problems
    data = json.loads((kept / "build/book/verdicts/toy.json").read_text())
    assert [r["why"] for r in data["results"]] == ["committed result"]


def test_what_cannot_be_kept(project, monkeypatch, ran):
    register = Register.load(project)
    with pytest.raises(UnreadableFileError, match="has not been run under paper"):
        committed.keep(register, NAME, "paper")
    with pytest.raises(UnknownNameError):
        committed.keep(register, NAME, "huge")
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    monkeypatch.setattr(committed, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="MB are kept"):
        committed.keep(register, NAME, "book")
    assert not (project / "book" / "results").exists()


def test_what_is_kept_again_counts_once(project, monkeypatch, ran):
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    register = Register.load(project)
    size = sum(file.stat().st_size for file in committed.keep(register, NAME, "book").files)
    monkeypatch.setattr(committed, "MOST_BYTES", int(1.5 * size))
    committed.keep(register, NAME, "book")
    with pytest.raises(InputError, match="MB are kept"):
        committed.keep(register, NAME, "smoke")  # beside the other


@pytest.mark.parametrize(("size", "left_out"), [(5_000_000, 0), (5_000_001, 1)])
def test_a_single_result_may_have_5_megabytes(project, ran, size, left_out):
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    register = Register.load(project)
    known = (project / "build/store").rglob("result.json")
    (entry,) = (file.parent for file in known if '"steps": 60' in file.read_text())
    more = size - sum(file.stat().st_size for file in entry.iterdir())
    (entry / "more").write_bytes(bytes(more))
    assert len(committed.keep(register, NAME, "book").left_out) == left_out


def test_a_large_result_is_left_out_and_what_was_made_from_it_kept(project, monkeypatch, ran, no_sphinx):
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    monkeypatch.setattr(committed, "MOST_OF_ONE", 100)
    register = Register.load(project)
    found = committed.keep(register, NAME, "book")
    assert len(found.left_out) == 1 and not (project / "book/results/book/store").exists()
    shutil.rmtree(project / "build")
    assert verdicts.best(register, register["toy"]).meta["committed"]
    assert build_site(register).profiles == {NAME: "book"}
