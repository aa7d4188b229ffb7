"""When and on what numbers were computed from nothing, and which come from an earlier state of the source."""

import importlib
import pkgutil

import pytest
from sealed import rewritten

import gfm.experiments
from gfm.book import Element, reports, verdicts
from gfm.book.register import Register
from gfm.book.site import origins
from gfm.book.site.status import status_page
from gfm.store import Experiment, provenance, source

VALUES = {"T1": -0.1, "T2": 0.2, "T3": -2, "T4": 30}
TORCH = f"torch {provenance.versions()['torch']}"


def result(number: int, day: str = "2026-03-01", why: str = "no stored result", **more) -> dict:
    now = source.digest(["gfm.experiments.central.valley"])
    return {"experiment": "valley", "key": f"key{number}", "source": now, "when": f"{day}T10:00:00+00:00",
            "machine": "A Processor", "reused": False, "why": why, "seconds": 1.0, **more}


@pytest.fixture
def rests_on(project):
    """``rests_on(*results)``: the toy judged under the book profile, resting on these."""

    def store(*found: dict) -> dict:
        Element("toy", profile="book").judge(**VALUES)
        file = verdicts.verdict_file(project, "book", "toy")
        told = {"results": found, "when": "2026-05-05T10:00:00+00:00", "machine": "Mine"}
        rewritten(file, lambda data: data.update(told))
        register = Register.load(project)
        return verdicts.load(register, register["toy"], "book").meta

    return store


def line(project, meta) -> str:
    return origins.computed_line(meta, project).removeprefix("[").removesuffix("]{.provenance}")


def test_what_was_computed_in_its_cells_has_the_runs_own_date(project, rests_on):
    meta = rests_on()
    assert line(project, meta) == f"Computed from nothing in its cells on 2026-05-05 · Mine · {TORCH}"
    assert origins.computed_day(meta) == "2026-05-05"


def test_the_oldest_and_newest_result_and_every_processor_are_named(project, rests_on):
    twice = result(2, why="stored result", reused=True)
    meta = rests_on(result(1), result(2, "2026-03-04", machine="B Processor"), twice)
    days = "between 2026-03-01 and 2026-03-04"
    assert line(project, meta) == f"Computed from nothing {days} · A Processor, B Processor · {TORCH}"
    assert origins.computed_day(meta) == "2026-03-01"


def test_a_reused_result_says_when_it_was_computed_and_by_its_own_torch(project, rests_on):
    entry = project / "book/results/book/store/valley/key1"
    entry.mkdir(parents=True)
    (entry / "result.json").write_text('{"provenance": {"versions": {"torch": "1.0"}}}')
    meta = rests_on(result(1, "2025-01-01", "stored result", reused=True), result(2))
    assert line(project, meta) == (
        f"Computed from nothing between 2025-01-01 and 2026-03-01 · A Processor · torch 1.0, {TORCH[6:]} · "
        "1 of 2 results reused, computed on 2025-01-01")
    meta = rests_on(result(3, why="stored result", reused=True))  # its file is not here
    assert line(project, meta) == (
        "Computed from nothing on 2026-03-01 · A Processor · the one result reused, computed on 2026-03-01")


def test_the_status_page_has_the_line_and_the_day_of_every_element(project, rests_on):
    meta = rests_on(result(1), result(2, source="0" * 64))
    page = status_page(Register.load(project), set())
    told = origins.computed_line(meta, project).replace(f" · {TORCH}", "")  # at the top of the page
    assert told + "\\\n[Profile *book*" in page and page.count(TORCH) == page.count("Mine") == 1
    assert "*1 of 2 results from an earlier source*" in page and "| book<br>2026-03-01 |" in page


def test_check_counts_and_names_results_of_an_earlier_source(project, rests_on, capsys):
    rests_on(result(1), result(2, why="committed result from an earlier source"), result(3, source="0" * 64),
             result(4, experiment="of a notebook", source="0" * 64), result(5, source=None))
    with pytest.raises(SystemExit):  # T2 holds in shape only: the results of old do not matter
        reports.check(None)
    told = capsys.readouterr().out
    assert "\n2 of 5 stored results come from an earlier state of the source.\n" in told
    assert "\nFrom an earlier state of the source: toy (2 of 5, book)\n" in told


def test_old_results_are_no_error_and_new_ones_are_not_named(project, rests_on, capsys):
    register = project / "book/elements.yml"
    register.write_text(register.read_text().replace("at_most: 0.0001", "at_most: 0.5"))
    rests_on(result(1, source="0" * 64))
    reports.check("book")
    assert "toy (1 of 1, book)" in capsys.readouterr().out
    rests_on(result(1))
    reports.check("book")
    told = capsys.readouterr().out
    assert "\n0 of 1 stored results come from" in told and "From an earlier" not in told
    rests_on()
    reports.check("book")
    assert "stored results" not in capsys.readouterr().out


def test_the_experiments_of_the_package_are_found_without_importing_them():
    for module in pkgutil.walk_packages(gfm.experiments.__path__, "gfm.experiments."):
        importlib.import_module(module.name)

    def below(kind):
        return {kind, *(c for child in kind.__subclasses__() for c in below(child))}

    kinds = {k for k in below(Experiment) if "name" in vars(k) and k.name and k.__module__.startswith("gfm.")}
    assert origins._homes() == {k.name: k.__module__ for k in kinds} and len(kinds) > 10


def test_a_result_computed_now_comes_from_the_present_source(tmp_path):
    from gfm.experiments.central.valley import ValleyRun
    from gfm.store import obtain

    found = dict(obtain(ValleyRun(steps=2, substeps=1), tmp_path).provenance)
    assert origins.earlier({"results": [found]}) == []
    assert origins.earlier({"results": [found | {"source": "0" * 64}]}) == [found | {"source": "0" * 64}]
