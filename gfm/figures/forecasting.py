"""Figures of forecasts: error against the step forecast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["error_panels"]


def error_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]], titles: Mapping[str, str], first: int, floor: float = 1e-17,
    limit: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Figure:
    """Error against step on a logarithmic axis, one panel per data set; the learned flow is drawn bold.

    Args:
        panels: title -> forecaster -> (samples, horizon) mean squared errors.
        titles: forecaster -> name in the legend.
        first: step of the first error.
        floor: smaller errors, which are rounding, are drawn at this value.
        limit: panel title -> steps and errors that no forecaster can beat.
    """
    looks = style.forecasters(next(iter(panels.values())), markevery=(9, 30), markersize=4.5, zorder=5)
    dashes: dict[str, Any] = {"color": style.COLOURS["black"], "marker": "_", "markersize": 9, "linestyle": "none"}
    with style.use():
        columns = 2 if len(panels) > 1 else 1
        rows = -(-len(panels) // columns)
        fig, axes = plt.subplots(rows, columns, figsize=(4.4 * columns, 2.9 * rows), squeeze=False, sharex=True)
        for ax, (title, errors) in zip(axes.flat, panels.items(), strict=False):
            for name, look in looks.items():
                mean = np.maximum(errors[name].mean(axis=0), floor)
                steps = np.arange(first, first + len(mean))
                ax.plot(steps, mean, label=titles[name], alpha=1.0 if name == "gfm" else 0.9, **look)
            if limit and title in limit:
                ax.plot(*limit[title], zorder=6, **dashes)
            top = max(np.median(errors["hold"]), 0.1) * 20 if "hold" in errors else None
            ax.set(yscale="log", title=title)
            ax.set_ylim(top=top)
        for ax in axes[-1]:
            ax.set_xlabel("optimizer step forecast")
        for ax in axes[:, 0]:
            ax.set_ylabel("mean squared error of the weights")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        if limit:
            labels.insert(-1, "Bayes limit (simulated)")
            handles.insert(-1, plt.Line2D([], [], **dashes))
        order = [len(labels) - 1, *range(len(labels) - 1)]  # the flow first
        fig.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside right upper")
    return fig

