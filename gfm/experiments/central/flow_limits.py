"""Where the central flow loses accuracy, and which settings of its computation matter."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gfm.central import Run
from gfm.experiments.central.flow_run import noted_run
from gfm.experiments.central.survey import overshoot_law
from gfm.measures.comparison import compare
from gfm.measures.edge import effective_top
from gfm.measures.flow import prediction_error
from gfm.store.experiment import Obtain

__all__ = ["limit_claims", "numerics_study", "overshoot_study"]


def overshoot_study(
    obtain: Obtain, families: Mapping[str, Mapping[str, Any]], window: float, **common: Any
) -> list[dict[str, Any]]:
    """One row per run: how far it overshoots the edge, and how well its flow predicts the loss.

    Args:
        obtain: a notebook's ``element.obtain``.
        families: name -> ``lr`` (a list) and further parameters of its runs, which override ``common``.
        window: least standard deviation, in steps, of the Gaussian average.
        common: parameters of all runs.

    Returns:
        Rows with the family, the learning rate, the optimizer's largest effective sharpness (the edge is 2), the
        median error of the predicted loss, and the run's notes. The error is NaN if the comparison is not judged
        (``why`` then says what there is of the run at the edge), and infinite if the run's flow stopped.
    """
    common = {"processes": ("discrete", "central"), **common}
    runs = [(family, lr, noted_run(obtain, **{**common, **own, "lr": lr}))
            for family, own in families.items() for lr in own["lr"]]
    return [
        {
            "family": family,
            "lr": lr,
            "peak": float(np.nanmax(effective_top(run, "discrete"))),
            "error": prediction_error(compared),
            "why": "" if compared.judged else compared.shortage(),
            "notes": list(run.notes),
        }
        for family, lr, run in runs for compared in [compare(run, window)]
    ]


def numerics_study(obtain: Obtain, lr: float, substeps: Sequence[int], **common: Any) -> list[dict[str, Any]]:
    """Relative change of the flow's final loss when one setting of its computation is changed.

    Each substep count is compared with the next one, which must be twice as large; every other setting is compared
    with the run of 4 substeps.
    """
    finest = max(substeps)
    given = {"lr": lr, "activation": "gelu", "processes": ("central",), "adaptive": False, **common}

    def run(**change: Any) -> Run:
        return noted_run(obtain, **{**given, "substeps": 4, **change})

    def final(run: Run) -> float:
        return float(run["central"].loss[-1])

    by_count = {count: run(substeps=count) for count in sorted({*substeps, 4})}
    shares = {share: run(critical_share=share) for share in (0.95, 0.995)}
    tolerances = {tolerance: run(tolerance=tolerance) for tolerance in (1e-2, 1e-4)}
    losses = {count: final(found) for count, found in by_count.items()}
    base = losses[4]
    rows = [
        {
            "setting": f"{count} to {2 * count} substeps", "kind": "substeps",
            "change": abs(losses[count] - losses[2 * count]) / losses[finest]
        }
        for count in sorted(substeps) if 2 * count in substeps
    ]
    for share, found in shares.items():
        change = abs(final(found) - base) / base
        rows.append({"setting": f"critical from {2 * share:.3g}", "kind": "share", "change": change})
    for tolerance, found in tolerances.items():
        change = abs(final(found) - base) / base
        rows.append({"setting": f"eigenvectors to {tolerance:.0e}", "kind": "tolerance", "change": change})
    return rows


def limit_claims(overshoot: list[dict[str, Any]], changes: list[dict[str, Any]]) -> dict[str, float]:
    """The values by which the claims about the flow's limits are judged.

    ``order`` (A14): ratio of successive changes as substeps are halved. ``share`` (D4) and ``tolerance`` (of the
    eigenvectors): largest relative change. Then the Spearman correlation of overshoot and error over the runs
    that have an error (a stopped flow counts as the largest), and the share of runs with a finite error.
    """
    halvings = [row["change"] for row in changes if row["kind"] == "substeps"]
    return {
        "order": halvings[1] / halvings[0] if len(halvings) > 1 else float("nan"),
        "share": max(row["change"] for row in changes if row["kind"] == "share"),
        "tolerance": max(row["change"] for row in changes if row["kind"] == "tolerance"),
        "correlation": overshoot_law(overshoot),
        "judged": float(np.mean([np.isfinite(r["error"]) for r in overshoot])) if overshoot else float("nan"),
    }
