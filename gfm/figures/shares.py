"""Figures against the share of a run that is observed."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["by_share"]


def by_share(
    panels: Mapping[str, Mapping[str, np.ndarray]], shares: Sequence[float], titles: Mapping[str, str]
) -> Figure:
    """Error at the last step relative to the learned flow's, against the observed share of the run.

    There is a panel for each data set.

    Args:
        panels: title -> forecaster, "gfm" among them -> (shares, samples) errors.
        shares: in per cent.
        titles: forecaster -> name in the legend.
    """
    looks = style.forecasters(next(iter(panels.values())), markers=True)
    with style.use():
        fig, axes = style.subplots(1, len(panels), 3.8, squeeze=False, sharey=True)
        for ax, (title, errors) in zip(axes.flat, panels.items(), strict=True):
            ours = errors["gfm"].mean(axis=1)
            for name, look in looks.items():
                ax.plot(shares, errors[name].mean(axis=1) / ours, label=titles[name], markersize=5,
                        zorder=5 if name == "gfm" else 3, **look)
            ax.set(title=title, xticks=shares)
        for ax in axes.flat:
            style.log(ax.yaxis)
        style.labels_around(fig, axes, "observed share of the run (%)", f"error / error of {titles['gfm']}",
                            loc="outside lower center", ncols=3)
    return fig
