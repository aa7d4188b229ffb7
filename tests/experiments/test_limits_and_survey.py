"""The limits and the survey on runs small enough for a test: rows say what they should."""

import math

import pytest

from gfm.errors import NotStoredError
from gfm.experiments.atlas import atlas, left_out
from gfm.experiments.flow_limits import limit_claims, numerics_study, overshoot_study
from gfm.experiments.survey import survey, worst
from gfm.figures import limits as draw_limits
from gfm.figures import survey as draw_survey

SMALL = {"n": 60, "hidden": (6,), "steps": 30}


def test_limits_rows_and_claims():
    overshoot = overshoot_study([0.02, 0.35], ["gelu"], 3, **SMALL)
    assert [row["lr"] for row in overshoot] == [0.35]  # the small rate never meets the edge
    assert overshoot[0]["peak"] > 1.9
    changes = numerics_study(0.35, [2, 4, 8], **SMALL)
    kinds = [row["kind"] for row in changes]
    assert kinds.count("substeps") == 2 and kinds.count("share") == 2 and kinds.count("tolerance") == 2
    claims = limit_claims(overshoot, changes)
    assert claims["order"] == pytest.approx(changes[1]["change"] / changes[0]["change"])
    assert math.isnan(claims["correlation"])  # one run has no correlation
    assert len(draw_limits.limits(overshoot, changes).axes) == 2


def test_survey_has_a_row_for_every_cell_and_marks_those_below_the_edge():
    rows = survey({
        "gd": {"cells": {"mlp": {"lr": [0.01, 0.4], "steps": 40, "hidden": [6]}}, "n": 40, "size": "tiny", "window": 3},
    })
    assert [(row["lr"], row["reached"]) for row in rows] == [(0.01, False), (0.4, True)]
    assert math.isnan(rows[0]["error"]) and rows[1]["error"] >= 0
    assert worst(rows, "error") == rows[1]["error"]
    assert math.isnan(worst(rows[:1], "error"))
    assert draw_survey.survey(rows).axes


def test_where_only_stored_runs_may_be_used_cells_never_run_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("GFM_STORE", str(tmp_path / "store"))
    common = {"n": 40, "size": "tiny", "processes": ("discrete",), "steps": 10}
    atlas({"mlp": {"lr": [0.2]}}, **common)
    monkeypatch.setenv("GFM_ONLY_STORED", "1")
    cells = {"mlp": {"lr": [0.2, 0.3]}, "cnn": {"lr": [0.1]}}
    runs = atlas(cells, **common)
    assert list(runs) == [("mlp", 0.2)]
    assert "MLP at 0.3, CNN at 0.1" in left_out(cells, runs)
    assert left_out({"mlp": {"lr": [0.2]}}, runs) == ""
    with pytest.raises(NotStoredError, match="none of these cells"):
        atlas({"cnn": {"lr": [0.1]}}, **common)
