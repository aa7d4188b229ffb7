"""The whole book, published by the command, is what a static host then serves."""

import hashlib
from pathlib import Path

import commands
import hosting

from gfm.book.register import Register
from gfm.book.site.publish import SUMS

ROOT = Path(__file__).parents[2]


def test_the_book_is_published_and_served_as_it_was_checked(html, tmp_path):
    to = tmp_path / "public"
    done = commands.gfm(ROOT, "publish", str(to), GFM_BUILD=str(html.parents[1]))
    assert done.returncode == 0, done.stderr
    sums = hosting.sums_of(to, SUMS)
    assert set(sums) == {f.relative_to(to).as_posix() for f in to.rglob("*") if f.is_file()} - {SUMS}
    pages = ["index.html", "status.html", "references.html", "_static/book.css",
             *(f"notebooks/{Path(name).with_suffix('.html').as_posix()}" for name in Register.load(ROOT).notebooks())]
    with hosting.serving(to) as address:
        for page in pages:
            assert hashlib.sha256(hosting.fetched(f"{address}/{page}")).hexdigest() == sums[page], page
