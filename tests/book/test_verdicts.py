"""Verdicts: the bound comes from the register, the value from the file, and disagreement is seen."""

import json
import math
from dataclasses import replace

import pytest

from gfm.book import Element, reports, verdicts
from gfm.book.register import Bound, Register
from gfm.book.runs.handover import Handover
from gfm.book.site import overview
from gfm.book.site.status import status_page
from gfm.errors import RegisterError, UnknownNameError, UnreadableFileError
from gfm.files import write_json

VALUES = {"T1": -0.1, "T2": 0.2, "T3": 0.2, "T4": 30}


def test_the_four_verdicts(project):
    found = Element("toy").judge(**VALUES)
    assert [v.verdict for v in found] == ["holds", "holds in shape only", "fails", "not run"]


def test_a_claim_is_judged_only_in_its_profiles_and_none_is_not_run(project):
    assert Element("toy", profile="paper").judge(**VALUES)[3].verdict == "holds"
    assert Element("toy", profile="paper").judge(**{**VALUES, "T1": None})[0].verdict == "not run"


@pytest.mark.parametrize("value, verdict, close", [
    (0.96, "holds", True), (0.951, "holds", True), (0.9, "holds", False), (1.04, "holds in shape only", True),
    (1.2, "holds in shape only", False), (1.99, "holds in shape only", True), (2.02, "fails", True),
    (3.0, "fails", False),
])
def test_a_verdict_that_hangs_on_the_machine_says_so(project, value, verdict, close):
    claim = Register.load(project)["toy"].claim("T2")
    claim = replace(claim, bound=Bound(high=1.0), shape=Bound(high=2.0), spread=0.05)
    found = verdicts.judge(claim, value, "book")
    assert (found.verdict, found.close, "another machine" in found.shown) == (verdict, close, close)
    assert not verdicts.judge(claim, value, "smoke").close
    assert not verdicts.judge(replace(claim, spread=0.0), value, "book").close


def test_a_value_at_its_bound_is_close_only_where_machines_were_seen_to_differ(project):
    claim = replace(Register.load(project)["toy"].claim("T2"), bound=Bound(high=0.0), shape=None)
    assert not verdicts.judge(claim, 0.0, "book").close


def test_the_table_says_why_a_profile_does_not_judge_a_claim(project):
    claim = Register.load(project)["toy"].claim("T4")
    assert verdicts.judge(claim, 12, "smoke").shown == "not judged: the run is too short"
    assert verdicts.judge(claim, None, "paper").shown == "not run"
    assert verdicts.judge(claim, 12, "paper").shown == "12"


def test_changed_parameters_are_judged_by_the_profile_that_was_changed(project):
    claim = replace(Register.load(project)["toy"].claim("T4"), exceptions={"paper": Bound(high=1.0)})
    assert verdicts.judge(claim, 12, "custom-smoke").why == "under the profile smoke this claim is not judged"
    assert verdicts.judge(claim, 12, "custom-paper").bound == Bound(high=1.0)


def test_a_run_that_allows_no_verdict_says_why_and_never_passes(project, capsys):
    why = "the run has no full cycle at the edge"
    found = Element("toy").judge(**{**VALUES, "T1": why})[0]
    assert (found.verdict, found.value, found.shown) == ("not judged", None, f"not judged: {why}")
    register = Register.load(project)
    stored = verdicts.load(register, register["toy"], "smoke")
    assert (stored.verdicts[0].shown, stored.stale) == (found.shown, ())
    assert overview.counts(register)["not judged"] == 1
    assert f"{found.claim.quantity}: {why} (bound" in status_page(register, set())
    with pytest.raises(SystemExit):
        reports.check("smoke")
    assert "T1" in capsys.readouterr().out.partition("Not run")[0]
    assert verdicts.judge(found.claim, why, "nowhere").verdict == "not judged"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_fails_and_is_kept(project, value):
    Element("toy").judge(**{**VALUES, "T1": value})
    register = Register.load(project)
    stored = verdicts.load(register, register["toy"], "smoke")
    assert stored.verdicts[0].verdict == "fails" and not math.isfinite(stored.verdicts[0].value)


@pytest.mark.parametrize("values, word", [({"T9": 1.0}, "no claim 'T9'"), ({"T1": 1.0}, "T2, T3, T4")])
def test_unknown_and_forgotten_claims(project, values, word):
    with pytest.raises(RegisterError, match=word):
        Element("toy").judge(**values)
    assert not list(project.rglob("build/**/toy.json"))


def test_unknown_profile_and_element(project):
    with pytest.raises(UnknownNameError, match="smoke, book, paper"):
        Element("toy", profile="huge")
    with pytest.raises(UnknownNameError):
        Element("tiy")


@pytest.mark.parametrize(("old", "new", "names", "stale"), [
    pytest.param("at_most: 1.0e-6", "at_most: -0.5", ["T1", "T2", "T3", "T4"], ("T1",), id="a bound that changed"),
    pytest.param("- id: T3\n", "- id: T5\n", ["T1", "T2", "T5", "T4"], ("T5", "T3"), id="a claim that left"),
])
def test_a_changed_register_makes_a_stored_verdict_stale_and_is_what_counts(project, old, new, names, stale):
    before = Element("toy").judge(**VALUES)
    register = project / "book" / "elements.yml"
    register.write_text(register.read_text().replace(old, new))
    loaded = Register.load(project)
    stored = verdicts.load(loaded, loaded["toy"], "smoke")
    assert [v.claim.id for v in stored.verdicts] == names and stored.stale == stale
    assert (stored.verdicts[0].verdict == "fails") == (stale == ("T1",)), before


def test_the_bound_is_that_of_the_stored_profile(project):
    register = project / "book" / "elements.yml"
    register.write_text(register.read_text().replace("{at_most: 1.0e-6}", "{at_most: 1.0e-6, paper: {at_most: -0.5}}"))
    for profile, verdict, bound in (("book", "holds", "at most 10⁻⁶"), ("paper", "fails", "at most −0.5")):
        Element("toy", profile=profile).judge(**VALUES)
        loaded = Register.load(project)
        found = verdicts.load(loaded, loaded["toy"], profile)
        assert (found.verdicts[0].verdict, str(found.verdicts[0].bound), found.stale) == (verdict, bound, ())
        assert bound in status_page(loaded, set())


def test_what_was_judged_before_stays_readable(project):
    register = project / "book" / "elements.yml"
    assert "judged before" not in status_page(Register.load(project), set())
    words = "2026-01-02: at most 0.2 until then; sharpened before the run."
    bound = "bound: {at_most: 1.0e-6}"
    register.write_text(register.read_text().replace(bound, f'{bound}\n      history: "{words}"'))
    Element("toy", profile="book").judge(**VALUES)
    page = status_page(Register.load(project), set())
    assert f"What was judged before</summary>\n\n- T1: {words}\n" in page


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "x"}', '{"schema": "gfm-verdicts/1", '
                                  '"element": "other", "profile": "smoke", "claims": []}'])
def test_a_foreign_verdict_file_is_refused(project, text):
    path = verdicts.verdict_file(project, "smoke", "toy")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    register = Register.load(project)
    with pytest.raises(UnreadableFileError):
        verdicts.load(register, register["toy"], "smoke")


def test_the_file_is_plain_json_with_its_provenance(project):
    Element("toy").judge(**VALUES)
    data = json.loads(verdicts.verdict_file(project, "smoke", "toy").read_text())
    assert {"seconds", "versions", "machine", "when", "results", "commit"} <= set(data)
    assert data["claims"][0] == {"id": "T1", "quantity": "largest rise between two steps",
                                 "value": -0.1, "bound": "at most 10⁻⁶", "verdict": "holds"}


def test_the_best_profile_is_the_most_complete_one(project):
    for profile in ("smoke", "book"):
        Element("toy", profile=profile).judge(**VALUES)
    Element("toy", profile="custom-book").judge(**{**VALUES, "T1": 9.0})
    register = Register.load(project)
    assert verdicts.best(register, register["toy"]).profile == "book"
    assert verdicts.best(register, register["unwritten"]) is None


@pytest.mark.parametrize("change", ["quantity", "history", "new"])
def test_a_run_older_than_its_claims_gives_way_to_a_later_one(project, change):
    for profile in ("smoke", "book", "paper"):
        Element("toy", profile=profile).judge(**VALUES)
    register = Register.load(project)
    assert verdicts.best(register, register["toy"]).profile == "paper"
    paper = verdicts.verdict_file(project, "paper", "toy")
    data = json.loads(paper.read_text())
    if change == "quantity":
        data["claims"][0]["quantity"] = "one seed's rise"
    elif change == "new":
        data["claims"].pop(0)
    elif change == "history":
        data["when"] = "2026-11-20T10:00:00+00:00"
        text = (project / "book" / "elements.yml").read_text()
        told = "quantity: largest rise between two steps\n"
        assert told in text
        text = text.replace(told, f'{told}      history: "2026-11-21: new."\n', 1)
        (project / "book" / "elements.yml").write_text(text)
        register = Register.load(project)
    write_json(paper, {key: value for key, value in data.items() if key != "checksum"})
    kept = verdicts.load(register, register["toy"], "paper")
    assert kept.outdated == ("T1",)
    shown = verdicts.best(register, register["toy"])
    assert shown.profile == "book" and not shown.outdated
    page = status_page(register, set())
    assert "is older than what 1 of these claims measure now (T1), so that of *book* stands here" in page
    assert ("before the claim was changed" in page) == (change != "new")
    verdicts.verdict_file(project, "book", "toy").unlink()
    assert verdicts.best(register, register["toy"]).profile == "paper"  # rather than smoke


def test_rounding_noise_is_not_spelt_out():
    from gfm.book.register import Bound

    bound = Bound.read({"at_most": 1e-6}, "")
    assert verdicts.show_value(3.1e-17, bound) == verdicts.show_value(-2e-16, bound) == "below 10⁻⁸"
    assert verdicts.show_value(-0.2, bound) == "−0.2"


def test_a_value_that_misses_its_bound_does_not_round_to_it():
    bound = Bound.read({"at_most": 1.0}, "here")
    assert verdicts.show_value(1.0048, bound) == "1.005"
    assert verdicts.show_value(1.00003, bound) == "1.00003"
    assert verdicts.show_value(0.99999, bound) == "1"
    assert verdicts.show_value(1.52, bound) == "1.52"


def test_a_run_in_part_does_not_stand_for_the_whole(project, monkeypatch):
    register = Register.load(project)
    Element("toy", profile="book").judge(**VALUES)
    handover = Handover(only_stored=True).environment()
    monkeypatch.setenv(*handover.popitem())
    Element("toy", profile="paper").judge(**VALUES)
    assert verdicts.best(register, register["toy"]).profile == "book"
    assert verdicts.load(register, register["toy"], "paper").meta["partial"]
    monkeypatch.delenv("GFM_RUN")
    Element("toy", profile="paper").judge(**VALUES)
    assert verdicts.best(register, register["toy"]).profile == "paper"


def test_one_broken_file_is_named_and_stops_neither_status_nor_check(project, capsys):
    path = verdicts.verdict_file(project, "smoke", "toy")
    Element("toy").judge(**VALUES)
    path.write_text(path.read_text()[:60])
    reports.status()
    shown = capsys.readouterr().out
    assert "unreadable verdicts" in shown and len(shown.splitlines()) > len(Register.load(project).elements)
    with pytest.raises(SystemExit):
        reports.check(None)
    assert "Cannot be read: toy (" in capsys.readouterr().out


def test_a_claim_younger_than_a_kept_result_has_not_been_run_there(project):
    Element("toy").judge(**VALUES)
    made = project / "build/smoke/verdicts/toy.json"
    register = project / "book" / "elements.yml"
    young = "    - id: T0\n      sentence: New.\n      quantity: new\n      bound: {at_most: 1.0}\n    - id: T1\n"
    register.write_text(register.read_text().replace("    - id: T1\n", young))
    loaded = Register.load(project)
    stored = verdicts.load(loaded, loaded["toy"], "smoke")
    assert (stored.verdicts[0].verdict, stored.stale) == ("not run", ("T0",))  # a run of one's own is to be made again
    kept = project / "book/results/smoke/verdicts/toy.json"
    kept.parent.mkdir(parents=True)
    made.rename(kept)
    stored = verdicts.load(loaded, loaded["toy"], "smoke")
    assert (stored.verdicts[0].verdict, stored.stale) == ("not run", ())
