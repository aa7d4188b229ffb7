"""The figure of the flow's limits: error against overshoot, and the effect of numerical settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["limits"]


def limits(overshoot: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels from the rows of ``gfm.experiments.central.flow_limits``; runs without an error are not drawn."""
    with style.use():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), width_ratios=(1, 1.1))
        names = list(dict.fromkeys(row["family"] for row in overshoot))
        for name, look in zip(names, style.cycle(len(names), markers=True), strict=True):
            known = (r for r in overshoot if r["family"] == name and np.isfinite(r["error"]))
            rows = sorted(known, key=lambda r: r["peak"])
            left.plot([r["peak"] for r in rows], [100 * r["error"] for r in rows], label=name, markersize=7, **look)
            for r in rows[-1:]:  # label only the largest learning rate: more labels would overlap
                left.annotate(f"lr {r['lr']:g}", (r["peak"], 100 * r["error"]), textcoords="offset points",
                              xytext=(5, 5), fontsize=7.5)
        left.axvline(2.0, **style.line("threshold"))
        left.set(xlabel="largest lr × sharpness of gradient descent (edge: 2)",
                 ylabel="error of the predicted loss (%)",
                 title="Error against overshoot")
        left.margins(x=0.12)
        left.set_ylim(bottom=0)
        if names:
            left.legend(title="activation (loss)", fontsize=7.5, title_fontsize=8)

        labels = [row["setting"] for row in changes]
        values = [max(row["change"], 1e-12) for row in changes]
        right.barh(range(len(labels)), values, color=style.COLOURS["sky"], edgecolor=style.COLOURS["black"], height=0.6)
        right.set_yticks(range(len(labels)), labels)
        right.invert_yaxis()
        right.set(xscale="log", xlabel="relative change of the flow's final loss", title="What its computation changes")
        right.grid(axis="y", visible=False)
    return figure
