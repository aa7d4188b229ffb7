"""Rules for the committed notebooks; nbval re-executes them in the same call (see conftest.py)."""

import contextlib
import json
import re
import warnings
from pathlib import Path

import pytest
import reproduction

from gfm.book import verdicts
from gfm.book.register import Register
from gfm.book.runs.notebooks import NoSuchProfile, Notebook, profile_parameters, source_of

ROOT = Path(__file__).parents[2]
REGISTER = Register.load(ROOT)
FILES = sorted(p for p in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
each_notebook = pytest.mark.parametrize("path", FILES, ids=[p.stem for p in FILES])


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def flags(path: Path, kind: str) -> list[dict]:
    """What the element face put into the metadata of a notebook's outputs."""
    return [o["metadata"]["gfm"] for c in cells(path) for o in c.get("outputs", ())
            if o.get("metadata", {}).get("gfm", {}).get("kind") == kind]


def test_there_are_notebooks_and_all_are_in_the_register():
    assert FILES
    names = {p.relative_to(ROOT / "notebooks").as_posix() for p in FILES}
    assert names == set(REGISTER.notebooks())


@each_notebook
def test_parameters_come_second_and_start_with_the_smoke_profile(path):
    first, second = cells(path)[:2]
    assert first["cell_type"] == "markdown" and source_of(first).startswith("# ")
    assert "parameters" in second["metadata"].get("tags", [])
    defaults = Notebook(ROOT, path).defaults
    assert next(iter(defaults.items())) == ("profile", "smoke")


@each_notebook
def test_every_code_cell_was_executed_in_order_without_error(path):
    code = [c for c in cells(path) if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", source_of(cell)


@each_notebook
def test_the_code_compiles_without_a_warning(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # newer Pythons show these in the notebook
        compile(Notebook(ROOT, path).code(), path.name, "exec")


@each_notebook
def test_code_that_is_shown_fits_the_column_of_its_page(path):
    """A column holds 85 characters; longer lines would be cut. Folded code is wrapped by the style sheet."""
    shown = (c for c in cells(path) if {"show-code", "sixty-lines"} & set(c["metadata"].get("tags", ())))
    assert [line for c in shown for line in source_of(c).splitlines() if len(line) > 85] == []


@each_notebook
def test_prose_names_no_claim_by_its_code(path):
    """A reader of the text knows no codes; the table of verdicts has them."""
    prose = "\n".join(source_of(c) for c in cells(path) if c["cell_type"] == "markdown")
    own = path.relative_to(ROOT / "notebooks").as_posix()
    code = "|".join(re.escape(c.id) for e in REGISTER if e.notebook == own for c in e.claims) or "none"
    assert re.findall(rf"\((?:{code})(?:[,;] (?:{code}))*\)", prose) == []


@each_notebook
def test_only_smoke_outputs_are_committed(path):
    tags = [t for c in cells(path) for t in c["metadata"].get("tags", [])]
    assert "injected-parameters" not in tags
    assert path.stat().st_size < 1_000_000


@each_notebook
def test_nothing_of_a_machine_or_a_moment_is_stored(path):
    text = path.read_text()
    for pattern in (r"/(home|root|tmp|work|Users)/", r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d", r"it/s\]",
                    '"papermill"', '"execution"'):
        assert not re.search(pattern, text), pattern


@each_notebook
def test_no_cell_is_left_out_of_the_comparison(path):
    assert not re.search(r"nbval[-_]|raises-exception|# *PYTEST_VALIDATE", path.read_text(), re.IGNORECASE)


@each_notebook
def test_committed_verdicts_follow_from_the_committed_values(path):
    """The value that is shown lies within the bound where the verdict says so, and beyond it elsewhere."""
    for cell in cells(path):
        for output in cell.get("outputs", ()):
            meta = output.get("metadata", {}).get("gfm", {})
            if meta.get("kind") != "verdicts":
                continue
            entry = REGISTER[meta["element"]]
            lines = "".join(output["data"]["text/markdown"]).splitlines()
            split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
            rows = [[part.strip() for part in parts] for parts in split]
            assert {row[0] for row in rows[2:]} == {claim.id for claim in entry.claims}
            place = {name: k for k, name in enumerate(rows[0])}
            for row in rows[2:]:
                shown, verdict = row[place["Value"]], row[place["Verdict"]].strip("*")
                if verdict in ("not run", "not judged"):
                    continue
                value, unit, _ = reproduction.read_number(shown)
                bound = entry.claim(row[0]).bound_in("smoke")
                near = any(abs(value - end) <= unit for end in (bound.low, bound.high))  # as far as it is shown
                assert near or bound.admits(value) == (verdict == "holds"), (row, bound)


@each_notebook
def test_no_algorithm_lives_in_a_notebook(path):
    """Notebooks call; classes and training loops live in the package. Loops are shown where they are the subject."""
    code = Notebook(ROOT, path).code()
    loop = [] if "your-own-network" in str(path) or "in-sixty-lines" in str(path) else [r"\.backward\("]
    for word in (r"^\s*class \w+", r"^\s*while ", *loop):
        assert not re.search(word, code, re.MULTILINE), word


@each_notebook
def test_every_output_states_what_a_rerun_must_reproduce(path):
    """The tolerance, and what varies, by which nbval holds a rerun against the output (tests/reproduction.py)."""
    for kind in ("figure", "table", "caption", "prose", "verdicts"):
        assert all("tolerance" in shown for shown in flags(path, kind)), kind


@each_notebook
def test_every_figure_has_words_and_data(path):
    shown = flags(path, "figure")
    assert shown or flags(path, "table"), "a notebook shows a figure or a table"
    for figure in shown:
        assert len(figure["alt"]) >= 40 and not figure["alt"].lower().endswith((".png", ".svg"))
        assert len(figure["caption"]) >= 40 and figure.get("data"), figure["name"]


@each_notebook
def test_every_element_of_the_notebook_is_judged_in_it(path):
    name = path.relative_to(ROOT / "notebooks").as_posix()
    expected = {e.id for e in REGISTER if e.notebook == name and e.claims}
    assert {f["element"] for f in flags(path, "verdicts")} == expected


@each_notebook
@pytest.mark.no_cover
def test_its_profiles_name_parameters_that_it_has(path):
    notebook = Notebook(ROOT, path)
    assert profile_parameters(ROOT, notebook, "book")["profile"] == "book"
    with contextlib.suppress(NoSuchProfile):  # a notebook may lack the papers' own settings
        assert profile_parameters(ROOT, notebook, "paper")["profile"] == "paper"


@each_notebook
def test_stored_verdicts_agree_with_the_register(path, smoke_outputs):
    """A claim may fail, honestly; a verdict that the register no longer gives may not stand."""
    name = path.relative_to(ROOT / "notebooks").as_posix()
    for entry in (e for e in REGISTER if e.notebook == name and e.claims):
        stored = verdicts.load(REGISTER, entry, "smoke")
        assert stored is not None and not stored.stale, entry.id


def test_committed_results_agree_with_the_register():
    for entry in REGISTER:
        for profile in ("book", "paper"):
            folder = ROOT / "book" / "results" / profile / "verdicts" / f"{entry.id}.json"
            if folder.is_file():
                assert not verdicts.load(REGISTER, entry, profile).stale, entry.id
