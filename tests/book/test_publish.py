"""The published folder is whole, checked, and never replaces something else."""

import hashlib
import shutil

import hosting
import pytest
from commands import gfm

from gfm.book.site.publish import SUMS, publish
from gfm.errors import InputError


@pytest.fixture
def site(whole, tmp_path):
    """The toy's built pages, to be changed."""
    shutil.copytree(whole / "build" / "site" / "html", tmp_path / "site" / "html")
    shutil.copyfile(whole / "build" / "site" / "built.sha256", tmp_path / "site" / "built.sha256")
    return tmp_path / "site"


def test_a_published_folder_has_all_pages_and_their_checksums(whole, site, tmp_path):
    to = tmp_path / "public"
    assert publish(whole, site, to) == []
    for name in (".nojekyll", "404.html", "index.html", "notebooks/part/toy.html", "_static/book.css"):
        assert (to / name).is_file(), name
    sums = hosting.sums_of(to, SUMS)
    assert set(sums) == {f.relative_to(to).as_posix() for f in to.rglob("*") if f.is_file()} - {SUMS}


def test_an_earlier_publication_is_replaced_and_nothing_else(whole, site, tmp_path):
    to = tmp_path / "public"
    publish(whole, site, to)
    (to / "index.html").write_text("changed", encoding="utf-8")
    assert publish(whole, site, to) == [] and (to / "index.html").read_text(encoding="utf-8") != "changed"
    (to / "mine.txt").touch()    # among published files
    with pytest.raises(InputError, match=r"something else .*mine\.txt"):
        publish(whole, site, to)
    assert (to / "mine.txt").is_file() and (to / "index.html").is_file()


def test_a_folder_of_checksums_that_is_not_a_publication_is_kept(whole, site, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.bin").write_bytes(b"1")
    (data / SUMS).write_text("no checksums of a book\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.bin"):
        publish(whole, site, data)
    assert (data / "rows.bin").is_file()


def test_the_built_pages_are_not_published_into_themselves(whole, site):
    for target in (site, site / "html", site / "html" / "public"):
        with pytest.raises(InputError, match="inside the pages"):
            publish(whole, site, target)
    assert (site / "html" / "index.html").is_file()


def test_a_publication_cut_short_leaves_the_earlier_one_and_is_taken_up_again(whole, site, tmp_path, monkeypatch):
    to = tmp_path / "public"
    publish(whole, site, to)

    def cut(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", cut)
    with pytest.raises(KeyboardInterrupt):
        publish(whole, site, to)
    assert (to / "index.html").is_file() and (to / SUMS).is_file()
    monkeypatch.undo()
    assert publish(whole, site, to) == [] and not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*.partial"))


def test_faults_of_the_published_pages_are_reported(whole, site, tmp_path):
    (site / "html" / "limits.html").unlink()
    assert "links to limits.html" in " ".join(publish(whole, site, tmp_path / "public"))


def test_pages_with_faults_are_not_published(whole, site, tmp_path):
    (site / "built.sha256").unlink()
    with pytest.raises(InputError, match="gfm build"):
        publish(whole, site, tmp_path / "public")
    assert not (tmp_path / "public").exists()


def test_the_command(whole, tmp_path):
    to = tmp_path / "public"
    done = gfm(whole, "publish", str(to))
    assert done.returncode == 0 and "public" in done.stdout
    sums = hosting.sums_of(to, SUMS)
    with hosting.serving(to) as address:
        for page in ("404.html", "index.html", "notebooks/part/toy.html", "_static/book.css"):
            assert hashlib.sha256(hosting.fetched(f"{address}/{page}")).hexdigest() == sums[page], page


def test_a_changed_file_and_a_missing_one_do_not_match_their_checksums(whole, site, tmp_path):
    to = tmp_path / "public"
    publish(whole, site, to)
    (to / "index.html").write_text("changed", encoding="utf-8")
    with pytest.raises(AssertionError, match=r"index\.html"):
        hosting.sums_of(to, SUMS)
    (to / "index.html").unlink()
    with pytest.raises(FileNotFoundError):
        hosting.sums_of(to, SUMS)
