"""The whole atlas in one table: optimizer and loss by network, with what each cell's flow was worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gfm.central import Run
from gfm.errors import InputError, NotStoredError
from gfm.experiments.atlas import TITLES, atlas
from gfm.experiments.flow_measures import at_edge, flow_excess, prediction_error, variance_ratio

__all__ = ["survey", "worst"]


def survey(settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each setting, network and learning rate.

    Args:
        settings: title -> parameters common to its cells, with ``cells`` (see ``atlas``) and
            ``window`` (steps of the Gaussian average) among them.

    Returns: rows with setting, net, lr, reached (the edge), error and bare (of the loss, with and
        without the oscillation's share; A4), excess (of the flow's top eigenvalue; A2), variance
        (mean ratio of squared displacement to predicted variance; A8). NaN where not at the edge.
    """
    rows = []
    for title, given in settings.items():
        common = dict(given)
        cells, window = common.pop("cells"), common.pop("window")
        try:
            runs = atlas(cells, processes=("discrete", "central"), eigen_every=3, **common)
        except NotStoredError:  # none of this setting's cells, where only stored runs may be used
            continue
        for (net, lr), run in runs.items():
            ratios = variance_ratio(run, window)
            rows.append({
                "setting": title,
                "net": TITLES.get(net, net),
                "lr": lr,
                "reached": bool(at_edge(run).any()),
                "error": prediction_error(run, window),
                "bare": prediction_error(run, window, predicted=False),
                "excess": _excess(run),
                "variance": float(np.mean(ratios)) if len(ratios) else float("nan"),
            })
    return rows


def _excess(run: Run) -> float:
    try:
        return flow_excess(run)[0]
    except InputError:  # beyond the edge from the start to the end
        return float("nan")


def worst(rows: list[dict[str, Any]], what: str) -> float:
    """The largest finite value of a quantity over the rows; NaN if there is none."""
    values = np.array([row[what] for row in rows], dtype=float)
    return float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")
