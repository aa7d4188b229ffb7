"""The whole atlas in one table: optimizer and loss by network, with the accuracy of each cell's flow."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from gfm.central import Run
from gfm.errors import NotStoredError
from gfm.experiments.central.atlas import TITLES, atlas
from gfm.measures.adaptive import loss_fall, loss_lag
from gfm.measures.comparison import at_edge, compare
from gfm.measures.edge import effective_top
from gfm.measures.flow import average, flow_excess, offset_share, prediction_error, variance_ratio
from gfm.store.experiment import Obtain

__all__ = ["Setting", "collect", "judged", "overshoot_law", "survey", "worst"]


class Setting(NamedTuple):
    """The runs of one optimizer and loss, and the least standard deviation, in steps, of their Gaussian average."""

    window: float
    runs: dict[tuple[str, float], Run]


def collect(obtain: Obtain, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Setting]:
    """The runs of each setting.

    Args:
        obtain: gives the result of an experiment; a notebook's ``element.obtain``.
        settings: title -> parameters common to its cells, including ``cells`` (see ``atlas``) and
            ``window`` (least standard deviation, in steps, of the Gaussian average).

    Returns:
        Title -> setting, in order; if only stored runs may be used, settings without one are left out.
    """
    found = {}
    for title, given in settings.items():
        common = dict(given)
        cells, window = common.pop("cells"), common.pop("window")
        with suppress(NotStoredError):  # only stored runs may be used, and this setting has none
            runs = atlas(obtain, cells, processes=("discrete", "central"), eigen_every=3, **common)
            found[title] = Setting(window, runs)
    return found


def survey(collected: Mapping[str, Setting]) -> list[dict[str, Any]]:
    """One row for each setting, network and learning rate.

    Returns:
        Rows with setting, net, lr, peak (the optimizer's largest effective sharpness; the edge is 2),
        reached (whether the edge is reached), error and bare (of the loss, with and
        without the oscillation's contribution; A4), excess (of the flow's top eigenvalue; A2), variance
        (mean ratio of squared displacement to predicted variance; A8), offset (share of that squared displacement
        which does not alternate; ``offset_share``), lag (steps by which the flow's loss is late) and fall (share by
        which that loss falls in a step; ``loss_lag``, ``loss_fall``). NaN if the comparison is not judged, with the
        reason in ``why``; infinite (error, excess) if the flow stopped.
    """
    rows = []
    for title, (window, runs) in collected.items():
        for (net, lr), run in runs.items():
            compared = compare(run, window)
            rows.append({
                "setting": title,
                "net": TITLES.get(net, net),
                "lr": lr,
                "peak": float(np.nanmax(effective_top(run, "discrete"))),
                "reached": bool(at_edge(run).any()),
                "error": prediction_error(compared),
                "bare": prediction_error(compared, predicted=False),
                "excess": flow_excess(run)[0],
                "variance": average(variance_ratio(compared)),
                "offset": offset_share(compared),
                "lag": loss_lag(compared),
                "fall": loss_fall(compared),
                "why": compared.why,
            })
    return rows


def overshoot_law(rows: Iterable[Mapping[str, Any]]) -> float:
    """Rank correlation (Spearman) of overshoot and error over the judged rows.

    NaN if there are fewer than three, or if all overshoots or all errors are equal. The error is infinite, and so
    counts as the largest, where a flow stopped.
    """
    pairs = ((row["peak"], row["error"]) for row in rows)
    known = np.array([pair for pair in pairs if not np.isnan(pair).any()]).reshape(-1, 2)
    varied = len(known) > 2 and all(len(np.unique(column)) > 1 for column in known.T)
    return float(spearmanr(known[:, 0], known[:, 1])[0]) if varied else float("nan")


def judged(values: Iterable[float]) -> float:
    """Share of the cells in which a quantity is finite."""
    return float(np.isfinite(np.array(list(values), dtype=float)).mean())


def worst(values: Iterable[float]) -> float:
    """The largest value over the cells, infinite if any failed; NaN only if none could be measured."""
    known = [v for v in values if not np.isnan(v)]
    return float(max(known)) if known else float("nan")
