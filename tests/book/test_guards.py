"""A build cannot be green and empty: each guard is broken once, and says so with code 1."""

import json
import shutil
from pathlib import Path

import pytest
from sealed import recorded

from gfm.book import building
from gfm.book.building import build
from gfm.book.register import Register
from gfm.book.site import build as site
from gfm.book.site import guards
from gfm.cli import commands
from gfm.errors import GfmError

NAME = "part/toy.ipynb"
OTHER = """
- id: other
  title: One whose notebook is not there
  section: both
  notebook: part/other.ipynb
  source: {paper: ours}
"""


@pytest.fixture
def copy(whole, project):
    """A copy of it to break."""
    shutil.copytree(whole / "build", project / "build")
    return project


def problems(root: Path) -> list[str]:
    return build(Register.load(root), "book", rerun=False).problems


def change(run: Path, how) -> None:
    notebook = json.loads(run.read_text())
    how([c for c in notebook["cells"] if c["cell_type"] == "code"])
    run.write_text(json.dumps(notebook))


def without(*kinds: str):
    def drop(cells) -> None:
        for cell in cells:
            cell["outputs"] = [o for o in cell["outputs"] if o.get("metadata", {}).get("gfm", {}).get("kind")
                               not in kinds]
    return drop


def emptied(cells) -> None:
    for cell in cells:
        cell["outputs"] = []


def edited(kind: str, how):
    """An output of that kind, changed in place."""
    def edit(cells) -> None:
        how(next(o for c in cells for o in c["outputs"] if o.get("metadata", {}).get("gfm", {}).get("kind") == kind))
    return edit


def failed(cells) -> None:
    cells[-1]["outputs"].append({"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []})


BROKEN = [
    (failed, ["1 of its 7 code cells ended in an error"]),
    (edited("figure", lambda o: o["data"].pop("image/png")), ["it has 1 empty output"]),
    (edited("table", lambda o: o.update(data={})), ["it has 1 empty output"]),
    (edited("verdicts", lambda o: o.update(data={"text/markdown": ["| Claim |\n"]})),
     ["its table of claims has none of toy"]),
    (lambda cells: cells[-1].update(execution_count=None), ["1 of its 7 code cells were not executed"]),
    (emptied, ["it has no outputs", "the claims of toy are not judged in it"]),
    (without("figure", "table"), ["it shows no figure and no table"]),
    (without("verdicts"), ["the claims of toy are not judged in it"]),
]


@pytest.mark.parametrize("how, wrong", BROKEN)
def test_a_run_must_be_whole_and_show_and_judge(ran, tmp_path, how, wrong):
    register, run = Register.load(ran), tmp_path / "toy.ipynb"
    empty = {"source": " \n", "execution_count": None, "outputs": []}
    shutil.copyfile(ran / "build/book/run" / NAME, run)
    change(run, lambda cells: cells.append(cells[0] | empty))
    assert guards.what_a_run_lacks(register, NAME, "book", run) == []
    change(run, how)
    found = guards.what_a_run_lacks(register, NAME, "book", run)
    assert found == [f"notebooks/{NAME} (book): {what}" for what in wrong]


def test_a_notebook_never_executed_does_not_become_a_green_book(project, no_sphinx):
    """The toy is committed without outputs."""
    found = problems(project)
    assert f"notebooks/{NAME} (smoke): it has no outputs" in found
    assert any("code cells were not executed" in problem for problem in found)


@pytest.mark.parametrize("profile", ["book", "paper"])
def test_a_run_that_shows_nothing_fails_the_build_also_beside_another(copy, no_sphinx, profile, capsys):
    run = copy / "build" / profile / "run" / NAME
    run.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(copy / "build/smoke/run" / NAME, run)
    change(run, without("figure", "table"))
    recorded(run, copy / "build/smoke/run" / NAME)
    with pytest.raises(SystemExit) as end:
        commands.build("book", 1, no_run=True, force=False)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"gfm: notebooks/{NAME} ({profile}): it shows no figure and no table\n"


def test_a_run_whose_outputs_are_gone_is_run_again(copy, monkeypatch, capsys):
    change(run := copy / "build/book/run" / NAME, emptied)
    recorded(run)
    again = []
    monkeypatch.setattr(building, "run_all", lambda plans, *rest: again.extend(plans) or [])
    assert building.bring_up_to_date(Register.load(copy), "book").reused == []
    assert [item.notebook.name for item in again] == [NAME] and "it has no outputs" in capsys.readouterr().out


def test_a_build_without_pages_is_none(copy, no_sphinx):
    shutil.rmtree(copy / "build/site")
    assert problems(copy) == ["no notebook has become a page", "html holds no pages"]


def test_pages_without_any_of_a_notebook_are_no_book(copy):
    html = copy / "build/site/html"
    assert guards.missing_pages(Register.load(copy), html) == []
    (html / "notebooks/part/toy.html").unlink()
    assert guards.missing_pages(Register.load(copy), html) == ["no notebook has become a page"]


def test_every_written_element_has_a_page(copy, no_sphinx):
    register = copy / "book/elements.yml"
    register.write_text(register.read_text() + OTHER)
    what = "the element other has no page: notebooks/part/other.html was not built, or is empty"
    assert guards.missing_pages(Register.load(copy), copy / "build/site/html") == [what]
    absent = "the register names notebooks/part/other.ipynb, which does not exist"
    assert problems(copy) == [absent, what]
    register.write_text(register.read_text().replace("notebook: part/other.ipynb", "notebook: null"))
    assert problems(copy) == []


def test_an_emptied_page_is_none(copy):
    page = copy / "build/site/html/notebooks/part/toy.html"
    page.write_text("\n")
    assert any("or is empty" in what for what in guards.missing_pages(Register.load(copy), copy / "build/site/html"))


def test_pages_that_are_not_as_they_were_built_are_made_again(copy, no_sphinx):
    loaded, html = Register.load(copy), copy / "build/site/html"
    assert site.build_site(loaded).reused
    page = html / "notebooks/part/toy.html"
    page.write_text(page.read_text()[:-1])
    again = site.build_site(loaded)
    assert not again.reused and again.problems == []
    assert site.build_site(loaded).reused
    page.unlink()
    assert not site.build_site(loaded).reused


def test_pages_of_other_builders_are_not_reused(copy, no_sphinx, monkeypatch):
    assert site.build_site(Register.load(copy)).reused
    monkeypatch.setattr(guards, "builders", lambda: {"Sphinx": "0.1"})
    assert not site.build_site(Register.load(copy)).reused


@pytest.mark.parametrize("name", guards.builders())
def test_another_builder_than_pinned_is_refused_before_anything_is_built(project, name, capsys):
    pins = {**guards.builders(), name: "0.0.1"}
    text = "".join(f"{n.replace('-', '_')}=={v}  # why\n" for n, v in pins.items())
    (project / "constraints.txt").write_text(text)
    with pytest.raises(SystemExit) as end:
        commands.build("smoke", 1, no_run=False, force=False)
    told = capsys.readouterr()
    assert end.value.code == 1 and told.out == "" and not (project / "build").exists()
    assert f"{name} {guards.builders()[name]} instead of 0.0.1, as constraints.txt pins" in told.err
    assert "`make env`" in told.err and f"-c constraints.txt {name}`" in told.err
    assert told.err.count("\n") == 1
    with pytest.raises(GfmError, match=f"{name} .* instead of 0.0.1"):
        site.build_site(Register.load(project))
    assert not (project / "build").exists()


def test_a_builder_that_is_not_installed_is_another_one(project, monkeypatch):
    monkeypatch.setattr(guards, "_BUILDERS", ("no-such-builder",))
    (project / "constraints.txt").write_text("no_such_builder==1.0\n")
    assert "no-such-builder none instead of 1.0" in guards.other_builders(project)


def test_pinned_builders_and_those_without_a_pin_are_accepted(project):
    assert guards.other_builders(project) == ""  # no constraints.txt
    for lines in ([f"{n}=={v}" for n, v in guards.builders().items()], ["numpy==0.1"]):
        (project / "constraints.txt").write_text("# Versions\n" + "\n".join(lines) + "\n")
        assert guards.other_builders(project) == ""


def test_the_projects_own_pins_name_every_builder(tmp_path, monkeypatch):
    shutil.copyfile(Path(__file__).parents[2] / "constraints.txt", tmp_path / "constraints.txt")
    monkeypatch.setattr(guards, "builders", lambda: dict.fromkeys(guards._BUILDERS, "0"))
    assert all(f"{name} 0 instead of" in guards.other_builders(tmp_path) for name in guards._BUILDERS)


@pytest.mark.parametrize("harm", [lambda text: "", lambda text: text[:-9], lambda text: text.replace("0", "1")],
                         ids=["emptied", "cut", "altered"])
def test_damaged_verdicts_count_as_not_run_and_stop_no_page(copy, no_sphinx, harm, capsys):
    for profile in ("smoke", "book"):
        file = copy / f"build/{profile}/verdicts/toy.json"
        file.write_text(harm(file.read_text()))
    with pytest.raises(SystemExit) as end:
        commands.build("book", 1, no_run=True, force=False)
    told = capsys.readouterr()
    assert end.value.code == 1 and "The book: " in told.out
    for profile in ("smoke", "book"):
        assert f"the verdicts of toy ({profile}) are left out: toy.json is not a whole verdict file" in told.err
    source = copy / "build/site/src"
    assert "not run" in (source / "status.md").read_text() and (source / "index.md").is_file()
