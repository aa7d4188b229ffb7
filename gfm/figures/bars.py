"""Figures that compare named settings by one number each, with its spread."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from gfm.figures import style

__all__ = ["by_name"]


def by_name(
    panels: Mapping[str, Mapping[str, np.ndarray]], xlabel: str, reference: float | None = None,
    bold: Sequence[str] = (), log: bool = False,
) -> Figure:
    """One panel per group, one row per setting: replicates as small dots, their mean as a large one.

    Args:
        panels: title -> setting -> (replicates,) values.
        xlabel: label of the x axis.
        reference: a value to mark, e.g. 1 for no gain.
        bold: settings drawn in the flow's colour.
        log: whether the x axis is logarithmic.
    """
    names = list(next(iter(panels.values())))
    wide = 2.9 if len(panels) < 3 else 1.9
    with style.use():
        fig, axes = plt.subplots(
            1, len(panels), figsize=(2.4 + wide * len(panels), 1.2 + 0.3 * len(names)), squeeze=False, sharey=True
        )
        for ax, (title, values) in zip(axes.flat, panels.items(), strict=True):
            for row, name in enumerate(names):
                colour = style.COLOURS["green" if name in bold else "blue"]
                every = np.atleast_1d(values[name])
                ax.plot(every, np.full(len(every), row), "|", color=colour, markersize=9, alpha=0.8)
                ax.plot(every.mean(), row, "D" if name in bold else "o", color=colour, markersize=7)
            if reference is not None:
                ax.axvline(reference, **style.line("threshold"))
            if log:
                ax.set_xscale("log")
                low, high = ax.get_xlim()
                if high < 30 * low:  # too narrow for ticks at powers of ten only
                    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                else:
                    ax.xaxis.set_major_locator(LogLocator(numticks=5))
                ax.xaxis.set_minor_formatter(NullFormatter())
            elif min(np.min(row) for row in values.values()) >= 0:
                ax.set_xlim(left=0)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_title(textwrap.fill(title, 22), fontsize=9.5)
            ax.set_xlabel(textwrap.fill(xlabel, 24))
            ax.set_yticks(range(len(names)), names)
    return fig

