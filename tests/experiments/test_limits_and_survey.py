"""The limits and the survey on runs small enough for a test: rows say what they should."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
from toys import edge_run

from gfm.errors import NotStoredError
from gfm.experiments.central.atlas import atlas, left_out, too_short
from gfm.experiments.central.flow_limits import limit_claims, numerics_study, overshoot_study
from gfm.experiments.central.survey import Setting, collect, judged, overshoot_law, survey, worst
from gfm.figures import limits as draw_limits
from gfm.figures import survey as draw_survey
from gfm.measures import flow as flow_measures
from gfm.measures.comparison import compare
from gfm.store import Result, obtain

SMALL = {"n": 60, "hidden": (6,), "steps": 30}


@pytest.mark.no_cover
def test_limits_rows_and_claims():
    families = {"gelu": {"lr": [0.02, 0.35], "activation": "gelu"},
                "cross-entropy": {"lr": [0.9], "activation": "gelu", "loss": "cross_entropy", "targets": "indices",
                                  "classes": 4}}
    made = {0.02: edge_run(120), 0.35: edge_run(), 0.9: edge_run(predicted_loss=np.exp(-np.arange(601) / 100) / 2)}

    def stored(experiment):
        return Result(*made[experiment.lr].to_arrays())

    overshoot = overshoot_study(stored, families, 3, **SMALL)
    assert [(row["family"], row["lr"]) for row in overshoot] == [("gelu", 0.02), ("gelu", 0.35), ("cross-entropy", 0.9)]
    assert math.isnan(overshoot[0]["error"])  # the first is too short at the edge, and is not left out
    assert [row["error"] for row in overshoot[1:]] == pytest.approx([0.0, 0.5], abs=1e-3)
    assert overshoot[1]["peak"] == pytest.approx(2.2)
    changes = numerics_study(obtain, 0.35, [2, 4, 8], **SMALL)
    kinds = [row["kind"] for row in changes]
    assert kinds.count("substeps") == 2 and kinds.count("share") == 2 and kinds.count("tolerance") == 2
    claims = limit_claims(overshoot, changes)
    assert claims["order"] == pytest.approx(changes[1]["change"] / changes[0]["change"])
    judged = [math.isfinite(row["error"]) for row in overshoot]
    assert claims["judged"] == sum(judged) / 3 < 1
    assert math.isnan(claims["correlation"])  # two runs have none
    assert len(draw_limits.limits(overshoot, changes).axes) == 2


def test_survey_has_a_row_for_every_cell_and_marks_those_below_the_edge():
    collected = collect(obtain, {
        "gd": {"cells": {"mlp": {"lr": [0.01, 0.4], "steps": 40, "hidden": [6]}}, "n": 40, "size": "tiny", "window": 3},
    })
    rows = survey(collected)
    assert [(row["lr"], row["reached"]) for row in rows] == [(0.01, False), (0.4, True)]
    assert [row["why"].split(" ")[1] for row in rows] == ["flow", "run"] and all(math.isnan(r["error"]) for r in rows)
    rows[1:] = survey({"gd": Setting(3, {("mlp", 0.4): edge_run()})})
    errors = [row["error"] for row in rows]
    assert worst(errors) == rows[1]["error"] and judged(errors) == 0.5
    assert math.isnan(worst(errors[:1])) and judged(errors[:1]) == 0
    assert draw_survey.survey(rows).axes
    assert rows[1]["lag"] * rows[1]["fall"] == pytest.approx(rows[1]["error"], abs=0.01)


def test_cells_that_are_too_short_are_named_with_what_there_is_of_them():
    cells = {("mlp", 0.4): compare(edge_run(), 3), ("mlp", 0.5): compare(edge_run(120), 3)}
    said = too_short(cells)
    assert said.startswith("Not judged: MLP at 0.5 (its flow is at the edge for ") and "0.4" not in said
    assert too_short(dict(list(cells.items())[:1])) == ""


def test_a_cell_whose_flow_stopped_fails_and_does_not_drop_out():
    broken = edge_run()
    for name in ("loss", "eigenvalues", "predicted_loss"):
        broken["central"][name][300:] = np.nan
    rows = survey({"gd": Setting(3, {("mlp", 0.4): broken, ("mlp", 0.5): edge_run()})})
    assert [row["error"] == math.inf and row["excess"] == math.inf for row in rows] == [True, False]
    assert worst(row["error"] for row in rows) == math.inf and judged(row["error"] for row in rows) == 0.5
    assert flow_measures.largest_rise(broken) == math.inf
    assert flow_measures.furthest([1.1, 0.5, math.nan]) == 0.5 and math.isnan(flow_measures.furthest([math.nan]))
    assert "stopped" in [t.get_text() for t in draw_survey.survey(rows[:1]).axes[0].texts]


def test_where_only_stored_runs_may_be_used_cells_never_run_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("GFM_STORE", str(tmp_path / "store"))
    common = {"n": 40, "size": "tiny", "processes": ("discrete",), "steps": 10}
    atlas(obtain, {"mlp": {"lr": [0.2]}}, **common)
    stored = partial(obtain, only_stored=True)
    cells = {"mlp": {"lr": [0.2, 0.3]}, "cnn": {"lr": [0.1]}}
    runs = atlas(stored, cells, **common)
    assert list(runs) == [("mlp", 0.2)]
    assert "MLP at 0.3, CNN at 0.1" in left_out(cells, runs)
    assert left_out({"mlp": {"lr": [0.2]}}, runs) == ""
    with pytest.raises(NotStoredError, match="None of these cells"):
        atlas(stored, {"cnn": {"lr": [0.1]}}, **common)


def test_error_is_held_against_overshoot_over_the_judged_cells():
    rows = [{"setting": "gd, mse", "peak": peak, "error": error}
            for peak, error in ((2.1, 0.01), (2.4, 0.02), (3.0, math.nan), (5.0, math.inf))]
    assert overshoot_law(rows) == pytest.approx(1.0) and math.isnan(overshoot_law(rows[:2]))
    assert overshoot_law([{**row, "peak": -row["peak"]} for row in rows]) == pytest.approx(-1.0)
    assert overshoot_law([rows[0], rows[1], rows[3]]) == pytest.approx(1.0)  # three are enough
    assert math.isnan(overshoot_law([*rows[:2], {**rows[3], "peak": math.nan}]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(overshoot_law([rows[0]] * 3)) and math.isnan(overshoot_law([]))
        assert draw_survey.overshoot([]).axes[0].get_legend() is None
    axes = draw_survey.overshoot([*rows, {**rows[0], "peak": math.inf}, {**rows[0], "error": 0.0}]).axes[0]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([5.0, 20.0])  # the stopped cell has no place on the axis
    through = axes.lines[1].get_ydata() / axes.lines[1].get_xdata() ** 2
    assert through[0] == pytest.approx(through[1]) == pytest.approx(np.median([1 / 5**2, 2 / 20**2]))
    empty = draw_survey.overshoot(rows[2:3])
    empty.canvas.draw()
    assert "no cell can be judged" in [text.get_text() for text in empty.axes[0].texts]
