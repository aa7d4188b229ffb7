"""The figure of the flow's limits: error against overshoot, and the effect of numerical settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["limits"]


def limits(overshoot: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels from the rows of ``gfm.experiments.central.flow_limits``; runs without an error are not drawn."""
    with style.use():
        figure, (left, right) = style.subplots(1, 2, 3.8)
        names = list(dict.fromkeys(row["family"] for row in overshoot))
        for name, look in zip(names, style.cycle(len(names), markers=True), strict=True):
            known = (r for r in overshoot if r["family"] == name and np.isfinite(r["error"]) and r["peak"] > 2.0)
            rows = sorted(known, key=lambda r: r["peak"])
            left.plot([50 * (r["peak"] - 2) for r in rows], [100 * r["error"] for r in rows], label=name, markersize=6,
                      **look)
        left.set(xlabel="overshoot: largest sharpness\nbeyond the edge (%)", ylabel="error of the predicted loss (%)",
                 title="Error against overshoot")
        if left.lines and any(len(line.get_xdata()) for line in left.lines):
            style.log(left.xaxis)
            style.log(left.yaxis)
        else:
            left.text(0.5, 0.5, "no run can be judged", transform=left.transAxes, ha="center")

        labels = [row["setting"] for row in changes]
        values = [max(row["change"], 1e-12) for row in changes]
        right.plot(values, range(len(labels)), "o", markersize=7, **style.cycle(1)[0] | {"linestyle": "none"})
        errors = [row["error"] for row in overshoot if np.isfinite(row["error"])]
        if errors:
            right.axvline(float(np.median(errors)), label="the flow's own error", **style.line("threshold"))
            right.legend(loc="lower left")
        right.set_yticks(range(len(labels)), labels)
        right.invert_yaxis()
        right.set(xlabel="relative change of the flow's final loss", title="Numerical settings")
        style.log(right.xaxis)
        right.grid(axis="y", visible=False)
        if names:
            figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=6,
                          title="activation (loss)")
    return figure
