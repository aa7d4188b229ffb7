"""Figures against the share of a run that is observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["by_share"]

#: Smaller errors, which are rounding, are drawn at this value.
FLOOR = 1e-17


def by_share(
    panels: Mapping[str, Mapping[str, np.ndarray]], shares: Sequence[float], titles: Mapping[str, str]
) -> Figure:
    """Error at the last step against the observed share of the run, one panel per data set.

    Args:
        panels: title -> forecaster -> (shares, samples) errors.
        shares: in per cent.
        titles: forecaster -> name in the legend.
    """
    looks = style.forecasters(next(iter(panels.values())), markers=True)
    with style.use():
        fig, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.4), squeeze=False)
        for ax, (title, errors) in zip(axes.flat, panels.items(), strict=True):
            for name, look in looks.items():
                mean = np.maximum(errors[name].mean(axis=1), FLOOR)
                ax.plot(shares, mean, label=titles[name], markersize=5, zorder=5 if name == "gfm" else 3, **look)
            ax.set(yscale="log", title=title, xticks=shares)
        xlabel, ylabel = "observed share of the run (%)", "mean squared error at step 200"
        style.labels_around(fig, axes, xlabel, ylabel, loc="outside right upper")
    return fig
