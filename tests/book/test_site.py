"""From an executed notebook to pages, and a checker that can fail."""

import dataclasses
import json
import shutil

import pytest
from sealed import recorded, rewritten

from gfm.book.register import Register
from gfm.book.site.build import _fill, build_site
from gfm.book.site.links import check_site
from gfm.book.site.pages import Page, make_page
from gfm.book.site.tidy import prune
from gfm.errors import RegisterError

NAME = "part/toy.ipynb"


def page(ran, tmp_path, change=lambda notebook: None) -> Page:
    notebook = json.loads((ran / "build/book/run" / NAME).read_text())
    change(notebook)
    run = tmp_path / "run.ipynb"
    run.write_text(json.dumps(notebook))
    return Page(run, ran / "build/book", tmp_path / "src", NAME, "{.runline}\nHead.")


def staged(made: Page) -> str:
    cells = json.loads((made.source / "notebooks" / NAME).read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def flagged_cell(notebook):
    return next(c for c in notebook["cells"] if c.get("outputs"))


def flagged(notebook, kind):
    return next(o for c in notebook["cells"] for o in c.get("outputs", ())
                if o.get("metadata", {}).get("gfm", {}).get("kind") == kind)


def test_outputs_become_figures_tables_prose_and_verdicts(ran, tmp_path):
    made = page(ran, tmp_path)
    assert set(make_page(made)) == {"toy-line", "toy-table"}
    text = staged(made)
    assert text.startswith("# A decaying line\n\n{.runline}\nHead.")
    assert "````{figure} figures/toy-line.svg\n:name: toy-line\n:alt: The line falls" in text
    assert "{download}`CSV <../../downloads/toy/toy-line.csv>`" in text
    assert "````{table} First and last.\n:name: toy-table\n:class: data" in text
    assert "After 60 steps the line is at $y = 0.001$" in text
    assert "[{ref}`fails <verdict-fails>`]{.verdict .fails}" in text
    assert (made.source / "downloads/toy/toy-line.json").is_file()


def codes(made: Page) -> list[dict]:
    cells = json.loads((made.source / "notebooks" / NAME).read_text())["cells"]
    return [c for c in cells if c["cell_type"] == "code"]


def test_code_is_folded_and_what_shows_nothing_joins_the_next_cell(ran, tmp_path):
    made = page(ran, tmp_path)
    make_page(made)
    first, *others = codes(made)
    assert first["metadata"]["mystnb"]["code_prompt_show"].startswith("Show the parameters and the code (")
    assert "steps = 30" in first["source"] and "class Decay" in first["source"] and first["outputs"]
    assert "toy-line" in "".join(others[0]["source"]) and len(others) == 3
    assert all("hide-input" in c["metadata"]["tags"] for c in others)


@pytest.mark.parametrize("tag", ["show-code", "sixty-lines"])
def test_code_that_is_part_of_the_text_stays_open_and_alone(ran, tmp_path, tag):
    made = page(ran, tmp_path, lambda n: next(c for c in n["cells"] if "class Decay" in "".join(c["source"]))[
        "metadata"].update(tags=[tag]))
    make_page(made)
    _, shown, *others = codes(made)
    assert "".join(shown["source"]).startswith("@dataclass") and "mystnb" not in shown["metadata"]
    assert "steps = 30" not in shown["source"] and "toy-line" not in shown["source"] and len(others) == 3


def test_warnings_of_a_run_are_not_on_its_page(ran, tmp_path):
    warning = {"output_type": "stream", "name": "stderr", "text": ["/home/me/x.py:1: UserWarning: no"]}
    made = page(ran, tmp_path, lambda n: flagged_cell(n)["outputs"].insert(0, warning))
    make_page(made)
    assert "UserWarning" not in (made.source / "notebooks" / NAME).read_text()


def test_a_row_of_verdicts_has_claim_and_measure_in_one_column(ran, tmp_path):
    made = page(ran, tmp_path)
    make_page(made)
    rows = [line for line in staged(made).splitlines() if "{.verdict ." in line]
    assert len(rows) == 4 and all(row.count("|") - row.count("\\|") == 5 for row in rows)
    assert all("]{.measured} |" in row for row in rows)
    assert [row.split("**")[1] for row in rows] == ["T1", "T2", "T3", "T4"]


def test_a_figure_without_alt_text_breaks_the_build(ran, tmp_path):
    made = page(ran, tmp_path, lambda n: flagged(n, "figure")["metadata"]["gfm"].update(alt=""))
    with pytest.raises(RegisterError, match="no alt text"):
        make_page(made)


def test_a_bare_image_breaks_the_build(ran, tmp_path):
    made = page(ran, tmp_path, lambda n: flagged(n, "figure")["metadata"].pop("gfm"))
    with pytest.raises(RegisterError, match="without alt text"):
        make_page(made)


def test_a_name_used_twice_breaks_the_build(ran, tmp_path):
    made = page(ran, tmp_path,
                lambda n: flagged(n, "table")["metadata"]["gfm"].update(name="toy-line"))
    with pytest.raises(RegisterError, match="two things named 'toy-line'"):
        make_page(made)


def test_links_to_elements_lead_to_their_pages_or_become_words(ran, tmp_path):
    def add(notebook):
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source":
                                  "[a](unwritten.ipynb) [b](other) [c](toy.ipynb#x) [d](../../limits.md)"})

    places = {"unwritten": None, "other": "whole/other.ipynb", "toy": NAME}
    make_page(made := dataclasses.replace(page(ran, tmp_path, add), elements=places))
    assert "a [b](../whole/other.ipynb) [c](toy.ipynb#x) [d](../../limits.md)" in staged(made)


def test_placeholders_are_filled_or_named():
    assert _fill("{{ a:b }} of {{ c }}", {"a:b": "1", "c": "2"}, "x.md") == "1 of 2"
    with pytest.raises(RegisterError, match="x.md asks for {{ d }}"):
        _fill("{{ d }}", {}, "x.md")


@pytest.fixture(scope="module")
def built(whole):
    """The built pages."""
    return whole / "build" / "site" / "html"


def test_the_page_shows_the_best_profile_and_names_it(built):
    text = (built / "notebooks/part/toy.html").read_text()
    assert "<em>book</em>" in text and "steps</span> <span class=\"o\">=</span> <span class=\"mi\">60" in text


def test_the_status_page_shows_every_claim_and_what_is_missing(built):
    text = (built / "status.html").read_text()
    for words in ("The line never rises.", "holds in shape only", "fails", "not run",
                  "read off a plot", "not written yet", "torch"):
        assert words in text, words
    first = (built / "index.html").read_text()
    assert "4 claims, 3 judged: 1 hold, 1 hold in shape only, 1 fail on\n1 of 1 pages, 1 are open." in first
    assert first.index("What did not reproduce") < first.index("It ends below minus one.")


def test_pages_without_mathematics_do_not_load_it(built):
    assert "katex" not in (built / "status.html").read_text()
    assert "katex" in (built / "notebooks/part/toy.html").read_text()
    assert "fontawesome" not in (built / "index.html").read_text()
    assert not list(built.rglob("*.map"))


def test_unchanged_pages_are_reused_and_changed_ones_are_not(whole, project):
    shutil.copytree(whole / "build", project / "build")
    same = build_site(Register.load(project))
    assert same.reused and same.problems == [] and same.profiles == {NAME: "book"}
    page = project / "book" / "limits.md"
    page.write_text(page.read_text() + "\nOne more.\n")
    again = build_site(Register.load(project))
    assert not again.reused and "One more." in (again.index.parent / "limits.html").read_text()


@pytest.mark.parametrize("old, new, word", [
    ('src="../../_images/toy-line.svg"', 'src="../../_images/no.svg"', "does not exist"),
    ('src="../../_images/toy-line.svg"', 'src="https://example.org/a.svg"', "another host"),
    ("</article>", '<img src="../../_images/toy-line.svg"></article>', "without alt text"),
    ("</article>", '<img src="../../_images/toy-line.svg" alt="a1b2.png"></article>', "file name"),
    ("</article>", '<a href="#nowhere">x</a></article>', "nothing there has that id"),
    ("</article>", '<a href="gone.html">x</a></article>', "links to gone.html"),
    ("</article>", '<a href="../../status.html#nowhere">x</a></article>', "has that id"),
    ("</head>", '<script src="//example.org/a.js"></script></head>', "another host"),
    ("</head>", '<link rel="stylesheet" href="a.css"></head>', "does not exist"),
])
def test_the_checker_sees_a_broken_page(built, tmp_path, old, new, word):
    html = tmp_path / "html"
    shutil.copytree(built, html)
    file = html / "notebooks/part/toy.html"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    (problem,) = check_site(html)
    assert problem.startswith("notebooks/part/toy.html") and word in problem


def test_the_checker_wants_pages(tmp_path):
    assert check_site(tmp_path)


def test_pruning_keeps_what_pages_use():
    css = ("/* c */ .used,.gone{a:b} .gone:hover{c:d} p>.used:not(.gone){e:f} @media (x){.gone{g:h} .used{i:j}}"
           "@media (y){.gone{k:l}} @font-face{src:url(a;b)} .sm\\:used{m:n} body{o:p}")
    kept = prune(css, {"used"})
    for part in (".used{a:b}", "p>.used:not(.gone){e:f}", ".used{i:j}", "@font-face", "body{o:p}"):
        assert part in kept, part
    for part in ("c:d", "g:h", "k:l", "m:n"):
        assert part not in kept, part


def test_another_run_is_shown_beside_under_names_of_its_own(ran, tmp_path):
    made = page(ran, tmp_path)
    beside = dataclasses.replace(made, suffix="-paper", head="{.runline}\nThe other.")
    assert set(make_page(made, beside)) == {"toy-line", "toy-table", "toy-line-paper", "toy-table-paper"}
    text = staged(made)
    assert "## The same under the profile *paper*\n\n{.runline}\nThe other." in text
    assert ":name: toy-line-paper" in text and "downloads/toy-paper/toy-line.csv" in text
    assert text.count("{.verdict .fails}") == 2
    assert (made.source / "downloads/toy-paper/toy-line.csv").is_file()


def as_under_paper(ran, project):
    """Give the project the toy's run under book, and the same as one under paper."""
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    shutil.copytree(project / "build/book", project / "build/paper", dirs_exist_ok=True)
    rewritten(project / "build/paper/verdicts/toy.json", lambda known: known.update(profile="paper"))
    recorded(project / "build/paper/run" / NAME)


def test_the_run_under_the_profile_paper_stands_beside_the_book_run(ran, project):
    as_under_paper(ran, project)
    site = build_site(Register.load(project))
    assert site.profiles == {NAME: "book"} and site.problems == []
    text = (site.index.parent / "notebooks/part/toy.html").read_text()
    assert "The same under the profile" in text and 'id="toy-line-paper"' in text
    assert text.index("Profile <em>book</em>") < text.index("Profile <em>paper</em>")
    row = text[text.index("What differs:"):text.index("toy-line-paper")]
    assert all(f"<p>{word}</p>" in row for word in ("steps", "60", "90"))


def test_a_run_under_paper_with_the_settings_of_the_book_is_not_shown_again(ran, project, no_sphinx):
    as_under_paper(ran, project)
    profiles = project / "notebooks/profiles.yml"
    profiles.write_text(profiles.read_text().replace("90", "60"))
    build_site(Register.load(project))
    staged_page = next((project / "build").rglob("site/**/notebooks/part/toy.ipynb")).read_text()
    assert "The same under the profile" not in staged_page
