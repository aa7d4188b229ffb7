"""Where the central flow loses accuracy, and which settings of its computation matter."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from gfm.experiments.flow_measures import at_edge, effective_top, prediction_error
from gfm.experiments.flow_run import flow_run

__all__ = ["limit_claims", "numerics_study", "overshoot_study"]


def _run(**parameters: Any):
    with warnings.catch_warnings():  # notes of a run are kept in it
        warnings.simplefilter("ignore")
        return flow_run(**parameters)


def overshoot_study(
    lrs: Sequence[float], activations: Sequence[str], window: float, **common: Any
) -> list[dict[str, Any]]:
    """One row a run: learning rate, activation, the optimizer's largest effective sharpness (the edge
    is 2) and the median error of the predicted loss; runs that stay below the edge, or come to it too
    late for a time average, are left out."""
    rows = []
    for activation in activations:
        for lr in lrs:
            run = _run(lr=lr, activation=activation, processes=("discrete", "central"), **common)
            error = prediction_error(run, window)
            if not at_edge(run).any() or not np.isfinite(error):
                continue
            rows.append({
                "activation": activation,
                "lr": lr,
                "peak": float(np.nanmax(effective_top(run, "discrete"))),
                "error": error,
            })
    return rows


def numerics_study(lr: float, substeps: Sequence[int], **common: Any) -> list[dict[str, Any]]:
    """Relative change of the flow's final loss when one setting of its computation is changed.

    The base has the smallest substep listed; ``substeps`` must double from one to the next.
    """
    finest = max(substeps)
    given = {"lr": lr, "activation": "gelu", "processes": ("central",), "adaptive": False, **common}

    def final(**change: Any) -> float:
        return float(_run(**{**given, "substeps": 4, **change})["central"].loss[-1])

    losses = {count: final(substeps=count) for count in substeps}
    base = losses[4] if 4 in losses else final()
    rows = [
        {"setting": f"{count} substeps", "kind": "substeps", "change": abs(losses[count] - losses[2 * count]) / losses[finest]}
        for count in sorted(substeps) if 2 * count in losses
    ]
    for share in (0.95, 0.995):
        change = abs(final(critical_share=share) - base) / base
        rows.append({"setting": f"critical from {2 * share:.3g}", "kind": "share", "change": change})
    for tolerance in (1e-2, 1e-4):
        change = abs(final(tolerance=tolerance) - base) / base
        rows.append({"setting": f"eigenvectors to {tolerance:.0e}", "kind": "tolerance", "change": change})
    return rows


def limit_claims(overshoot: list[dict[str, Any]], changes: list[dict[str, Any]]) -> dict[str, float]:
    """A14: ratio of successive changes by halved substeps; D4 and eigenvectors: largest relative
    change; correlation (Spearman) of overshoot and error over the runs."""
    halvings = [row["change"] for row in changes if row["kind"] == "substeps"]
    return {
        "order": halvings[1] / halvings[0] if len(halvings) > 1 else float("nan"),
        "share": max(row["change"] for row in changes if row["kind"] == "share"),
        "tolerance": max(row["change"] for row in changes if row["kind"] == "tolerance"),
        "correlation": float(spearmanr([r["peak"] for r in overshoot], [r["error"] for r in overshoot])[0])
        if len(overshoot) > 2 else float("nan"),
    }
