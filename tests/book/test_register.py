"""The register is read strictly: a misspelt key or an impossible bound is named, not passed over."""

import math

import pytest

from gfm.book.register import SECTIONS, Bound, Register, readable
from gfm.errors import RegisterError, UnknownNameError


def test_the_real_register_holds_every_element(pytestconfig):
    register = Register.load(pytestconfig.rootpath)
    written = [sum(e.section == s for e in register) for s in SECTIONS]
    assert all(found >= least for found, least in zip(written, (19, 11, 5), strict=True)), written
    for entry in register:
        if entry.notebook:
            assert (register.root / "notebooks" / entry.notebook).is_file(), entry.id


@pytest.mark.parametrize("spec, inside, outside", [
    ({"at_most": 1}, [1, -5], [1.001, math.nan, math.inf]),
    ({"at_least": 0}, [0, 7], [-1e-9, math.nan]),
    ({"between": [2, 2.15]}, [2, 2.1], [1.99, 2.2, math.nan]),
    ({"at_least": 1, "at_most": 2}, [1.5], [0.5, 3]),
    ({"between": [1, 1]}, [1], [0.999, 1.001]),  # the one value, as of a count
    ({"between": [0, 5], "at_least": 1, "at_most": 2}, [1, 2], [0.5, 3]),
])
def test_bounds(spec, inside, outside):
    bound = Bound.read(spec, "here")
    assert all(bound.admits(v) for v in inside) and not any(bound.admits(v) for v in outside)


@pytest.mark.parametrize("spec", [{}, None, 3, {"atmost": 1}, {"at_most": "x"}, {"between": [2, 1]},
                                  {"between": 3}])
def test_bounds_that_are_none(spec):
    with pytest.raises(RegisterError):
        Bound.read(spec, "here")


CLAIM = (
    "- {id: a, title: t, section: both, source: {paper: ours}, "
    "claims: [{id: A, sentence: s, quantity: q, bound: %s}]}"
)


def _register(folder, text):
    (folder / "book").mkdir()
    (folder / "book" / "elements.yml").write_text(text)
    return Register.load(folder)


def test_a_bound_may_differ_by_profile(tmp_path):
    claim = _register(tmp_path, CLAIM % "{at_most: 0.05, paper: {at_most: 0.02}}")["a"].claim("A")
    assert [str(claim.bound_in(p)) for p in ("smoke", "book", "paper", "custom-smoke", "custom-paper")] == [
        "at most 0.05", "at most 0.05", "at most 0.02", "at most 0.05", "at most 0.02"]


@pytest.mark.parametrize("spec, word", [
    ("{paper: {at_most: 0.02}}", "at_most, at_least or between"),  # what holds elsewhere must be said
    ("{at_most: 0.05, paper: 0.02}", "profile paper"),
    ("{at_most: 0.05, papr: {at_most: 0.02}}", "at_most, at_least or between"),
])
def test_bounds_by_profile_that_are_none(tmp_path, spec, word):
    with pytest.raises(RegisterError, match=word):
        _register(tmp_path, CLAIM % spec)


def test_every_value_that_was_read_off_a_plot_has_its_uncertainty(pytestconfig):
    for entry in Register.load(pytestconfig.rootpath):
        for claim in entry.claims:
            if "read off a plot" in claim.paper or "read off plots" in claim.paper:
                assert "by eye, to 2-3 %" in claim.paper, (entry.id, claim.id)


ONE_CLAIM = ("- {{id: a, title: t, section: both, source: {{paper: ours}}, claims: "
             "[{{id: A, sentence: s, quantity: q, bound: {{at_most: 1}}, {}}}]}}")


@pytest.mark.parametrize("text, word", [
    ("- {id: a", "cannot be read"),
    ("{}", "must be a list"),
    ("- {id: a}", "missing"),
    ("- {id: a, title: t, section: x, source: {paper: ours}}", "section"),
    ("- {id: a, title: t, section: both, source: {paper: theirs}}", "source.paper"),
    ("- {id: a, title: t, section: both, source: {paper: ours}, clams: []}", "unknown keys"),
    ("- {id: a, title: t, section: both, source: {paper: ours}, notebook: /a.ipynb}", "a path below notebooks/"),
    ("- {id: a, title: t, section: both, source: {paper: ours}, notebook: b/../../a.ipynb}", "a path below notebooks/"),
    ("- {id: a, title: t, section: both, source: {paper: ours}, claims: [{id: A}]}", "needs id"),
    (ONE_CLAIM.format("profiles: [book]"), "unjudged must say why"),
    (ONE_CLAIM.format("varies: weather"), "varies must be one of"),
    (ONE_CLAIM.format("tolerance: 2"), "a tolerance is relative"),
    (ONE_CLAIM.format("tolerance: 0"), "a tolerance is relative"),
    (ONE_CLAIM.format("spread: 0"), "a tolerance is relative"),
    (ONE_CLAIM.format("tolerance: yes"), "a tolerance is relative"),
    ("- {id: a, title: t, section: both, source: {paper: ours}}\n" * 2, "twice"),
    ("- &e {id: a, title: t, section: both, source: {paper: ours}}\n- *e", "alias"),
])
def test_a_wrong_register_is_refused_with_its_place(tmp_path, text, word):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "elements.yml").write_text(text)
    with pytest.raises(RegisterError, match=word):
        Register.load(tmp_path)


def test_outside_a_project_and_unknown_elements(tmp_path, project):
    with pytest.raises(RegisterError, match="elements.yml"):
        Register.load(tmp_path)
    with pytest.raises(UnknownNameError, match="nope"):
        Register.load(project)["nope"]


def test_numbers_for_reading():
    assert [readable(v) for v in (1e-6, -0.00313, 2.0, 12345.0, math.nan, -math.inf)] == [
        "10⁻⁶", "−0.00313", "2", "1.23·10⁴", "not finite", "−∞"]
