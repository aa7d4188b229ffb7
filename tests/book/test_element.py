"""What a notebook shows: figures need words, and their numbers lie beside them."""

import csv
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gfm.book import Element, below, datafiles, element
from gfm.book.register import Register
from gfm.book.verdicts import load
from gfm.errors import InputError
from gfm.store import Experiment, Result

WORDS = {"alt": "A line that rises from zero to one.", "caption": "A line, drawn for a test."}


def line():
    fig, ax = plt.subplots(figsize=(3, 2))
    ax.plot([0, 1])
    return fig


def test_a_figure_leaves_svg_png_csv_and_json(project):
    data = {"x": np.array([0.0, np.nan]), "grid": np.arange(6).reshape(2, 3), "name": np.array(["a"])}
    Element("toy").show(line(), "one", **WORDS, data=data)
    smoke = project / "build" / "smoke"
    assert (smoke / "figures/toy/one.svg").read_text().lstrip().startswith("<?xml")
    assert (smoke / "figures/toy/one.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.reader(open(smoke / "data/toy/one.csv")))
    assert rows[0] == ["x", "grid[0]", "grid[1]", "grid[2]", "name"] and rows[2][0] == ""
    read = json.loads((smoke / "data/toy/one.json").read_text())
    assert read == {"x": [0.0, None], "grid": data["grid"].tolist(), "name": ["a"]}
    assert not plt.get_fignums()


def test_the_same_figure_gives_the_same_files(project):
    for name in ("one", "two"):
        Element("toy").show(line(), name, **WORDS)
    for kind in ("svg", "png"):
        one, two = ((project / f"build/smoke/figures/toy/{name}.{kind}").read_bytes() for name in ("one", "two"))
        assert one == two, kind


@pytest.mark.parametrize("words", [{"alt": "", "caption": WORDS["caption"]},
                                   {"alt": WORDS["alt"], "caption": " "}])
def test_a_figure_without_words_is_refused(project, words):
    with pytest.raises(InputError, match="alt text"):
        Element("toy").show(line(), "one", **words)


def test_a_heavy_image_is_refused(project):
    fig, ax = plt.subplots(figsize=(8, 8))
    ax.imshow(np.random.default_rng(0).random((900, 900)))
    with pytest.raises(InputError, match="kB"):
        Element("toy").show(fig, "one", **WORDS)


def test_an_image_that_is_a_little_heavy_gets_coarser(project):
    fig, ax = plt.subplots(figsize=(6, 6))
    ax.imshow(np.random.default_rng(0).random((400, 400)))
    element = Element("toy")
    element.show(fig, "one", **WORDS)
    png = (element.folder / "figures/toy/one.png").read_bytes()
    width = int.from_bytes(png[16:20], "big")
    assert len(png) <= 200_000 and width < 6 * fig.dpi


def test_object_data_is_refused(project):
    with pytest.raises(InputError, match="numbers or text"):
        Element("toy").show(line(), "one", **WORDS, data={"x": np.array([{}])})


def test_a_table_keeps_whole_digits_and_shows_three(project, capsys):
    Element("toy").table([{"a": 1 / 3, "b": "x|y"}], ["a", "b"], "tab", "A table for a test.")
    assert "| 0.333 | x\\|y |" in capsys.readouterr().out
    rows = json.loads((project / "build/smoke/data/toy/tab.json").read_text())
    assert rows == [{"a": 1 / 3, "b": "x|y"}]


def test_the_summary_notices_a_change():
    first = datafiles.summary({"x": np.linspace(0, 1, 50), "label": np.array(["a"])})
    assert first == {"x": {"shape": [50], "finite": 50, "mean": 0.5, "low": 0.0, "high": 1.0, "last": 1.0}}
    assert datafiles.summary({"x": np.linspace(0, 1.01, 50)}) != first


def test_an_element_without_claims_records_its_run_when_it_shows_something(project):
    Element("unwritten", profile="book").show(line(), "one", **WORDS)
    register = Register.load(project)
    stored = load(register, register["unwritten"], "book")
    assert stored.verdicts == () and stored.meta["versions"] and stored.meta["when"]
    Element("toy", profile="book").show(line(), "two", **WORDS)
    assert load(register, register["toy"], "book") is None  # its claims are judged first


@pytest.mark.parametrize(("reused", "low", "high"), [(True, 1000, 1100), (False, 0, 100)])
def test_the_seconds_of_a_run_are_those_of_computing_everything(project, monkeypatch, reused, low, high):
    """What was computed now is part of the time that passed; what was stored is added to it."""
    known = {"experiment": "test/slow", "seconds": 1000.0, "reused": reused}
    monkeypatch.setattr(element, "obtain", lambda *_, **__: Result({}, {}, known))
    toy = Element("toy")
    toy.obtain(Experiment())
    toy.judge(T1=0.0, T2=0.0, T3=0.0, T4=None)
    assert low <= load(toy.register, toy.entry, "smoke").meta["seconds"] < high


def test_notes_of_runs_are_said_and_nothing_where_there_are_none(project, capsys):
    element = Element("toy")
    element.say_notes({"quiet": []})
    assert capsys.readouterr().out == ""
    element.say_notes({"quiet": [], ("CNN", 0.2): ["the cap is reached", "the cap is reached"]})
    assert capsys.readouterr().out.strip().endswith("\n\n- CNN at 0.2: the cap is reached\n\n</details>")


@pytest.fixture
def shown(project, monkeypatch):
    """The metadata of what an element displays."""
    seen = []
    monkeypatch.setattr(element, "_display", lambda bundle, output: seen.append(output.metadata()["gfm"]))
    return seen


def test_every_output_states_what_a_rerun_must_reproduce(shown):
    toy = Element("toy")
    toy.say("One.")
    toy.say("Two.", tolerance=0.1)
    toy.say("Three.", varies="time")
    toy.say_notes({"run": ["at step 3"]})
    toy.table([[1, 2]], ["a", "s"], "tab", "A table.", tolerance=0.2, varies={"s": "time"})
    toy.show(line(), "one", **WORDS, data={"x": [1.0]}, tolerance=0.3, varies={"x": "chaos"})
    toy.judge(T1=0.0, T2=0.0, T3=0.0, T4=None)
    assert [m.get("tolerance") for m in shown] == [
        0.02, 0.1, 0.02, 0.02, 0.2, 0.2, 0.3, 0.3, {"T1": 0.1, "T2": 0.02, "T3": 0.02, "T4": 0.02}]
    assert [m.get("varies") for m in shown] == [
        None, None, "time", "iterations", {"s": "time"}, None, {"x": "chaos"}, None, {"T4": "iterations"}]


@pytest.mark.parametrize("call, word", [
    (lambda e: e.say("x", tolerance=0.0), "tolerance"),
    (lambda e: e.say("x", tolerance=1.0), "tolerance"),
    (lambda e: e.say("x", varies="weather"), "weather"),
    (lambda e: e.table([[1]], ["a"], "t", "A table.", varies={"b": "time"}), "'b'"),
    (lambda e: e.show(line(), "one", **WORDS, data={"x": [1.0]}, varies={"y": "time"}), "'y'"),
])
def test_a_tolerance_or_kind_that_makes_no_sense_is_refused(project, call, word):
    with pytest.raises(InputError, match=word):
        call(Element("toy"))


def test_what_lies_far_within_its_bound_is_said_to():
    assert below(3e-11, 1e-6) == below(9.9e-9, 1e-6) == "below 10⁻⁸"
    assert below(1.3e-8, 1e-6) == "1.3·10⁻⁸"
