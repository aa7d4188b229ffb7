"""The figure of the flow's limits: error against overshoot, and the effect of numerical settings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["limits"]


def limits(overshoot: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels from the rows of ``gfm.experiments.central.flow_limits``.

    Runs that are not judged are open marks at the bottom; those that do not come to the edge are left out.
    """
    with style.use():
        figure, (left, right) = style.subplots(1, 2, 3.8)
        there = [row for row in overshoot if 2.0 < row["peak"] < np.inf]
        names, rates = (list(dict.fromkeys(row[key] for row in there)) for key in ("family", "lr"))
        markers = [look["marker"] for look in style.cycle(len(names), markers=True)]
        colours = {lr: look["color"] for lr, look in zip(sorted(rates), style.scale(len(rates)), strict=True)}
        for name, marker in zip(names, markers, strict=True):
            rows = sorted((row for row in there if row["family"] == name), key=lambda row: row["peak"])
            known = [row for row in rows if np.isfinite(row["error"])]
            left.plot([_over(row) for row in known], [100 * row["error"] for row in known], linestyle="-",
                      linewidth=1.0, color=style.COLOURS["pale"], zorder=1)
            for row in rows:
                judged = np.isfinite(row["error"])
                left.plot(_over(row), 100 * row["error"] if judged else 0.04, marker=marker, markersize=7,
                          color=colours[row["lr"]], markerfacecolor=None if judged else "none", linestyle="none",
                          transform=left.transData if judged else left.get_xaxis_transform())
            left.plot([], [], marker=marker, color=style.COLOURS["grey"], linestyle="none", label=name)
        for lr, colour in colours.items():
            left.plot([], [], color=colour, linestyle="-", linewidth=5, label=f"lr = {lr:g}")
        left.set(xlabel="overshoot: largest sharpness\nbeyond the edge (%)", ylabel="error of the predicted loss (%)",
                 title="Error against overshoot")
        if any(np.isfinite(row["error"]) for row in there):
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
                          title="left: activation (loss), and learning rate; open marks: not judged")
    return figure


def _over(row: Mapping[str, Any]) -> float:
    """By how many per cent the sharpness passes the edge."""
    return 50 * (row["peak"] - 2)
