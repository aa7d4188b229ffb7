"""Figures that compare named settings by one number each, with its spread."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["by_name"]


Values = Mapping[str, np.ndarray] | Mapping[str, Mapping[str, np.ndarray]]


def by_name(
    panels: Mapping[str, Values], xlabel: str, reference: float | None = None, bold: Sequence[str] = (),
    log: bool = False, band: tuple[float, float] | None = None, geometric: bool = False,
) -> Figure:
    """One panel per group, one row per setting: replicates as dashes, their mean as a mark.

    Args:
        panels: title -> setting -> (replicates,) values, or name of a forecaster -> such values, drawn in one row.
        xlabel: label of the x axis.
        reference: a value to mark, e.g. 1 for no gain.
        bold: settings or forecasters drawn in the flow's colour.
        log: whether the x axis is logarithmic.
        band: around the reference, shaded: differences too small to matter.
        geometric: whether the mark is the geometric mean.
    """
    names = list(next(iter(panels.values())))
    columns = 2 if len(panels) > 2 and len(names) <= 8 else len(panels)
    rows = -(-len(panels) // columns)
    with style.use():
        fig, axes = style.subplots(rows, columns, 1.1 + 0.28 * len(names), squeeze=False, sharey=True)
        for ax in axes.flat[len(panels):]:
            ax.set_visible(False)
        for ax, (title, values) in zip(axes.flat, panels.items(), strict=False):
            if band is not None:
                ax.axvspan(*band, color=style.COLOURS["pale"], alpha=0.7, linewidth=0)
            for row, name in enumerate(names):
                found = values[name]
                several = found if isinstance(found, Mapping) else {name: found}
                looks = style.cycle(len(several), markers=True)
                for (who, every), look in zip(several.items(), looks, strict=True):
                    look = style.line("gfm", marker="D") if who in bold else look
                    drawn = {"color": look["color"], "linestyle": "none"}
                    every = np.atleast_1d(every)
                    ax.plot(every, np.full(len(every), row), "|", markersize=8, alpha=0.7, **drawn)
                    mean = np.exp(np.log(every).mean()) if geometric else every.mean()
                    ax.plot(mean, row, look["marker"], markersize=7, label=who if row == 0 else None, **drawn)
            if reference is not None:
                ax.axvline(reference, **style.line("threshold"))
            if log:
                style.log(ax.xaxis)
            elif min(np.min(every) for found in values.values() for every in _each(found)) >= 0:
                ax.set_xlim(left=0)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_title(textwrap.fill(title, 22), fontsize=style.TEXT)
            ax.set_yticks(range(len(names)), names)
        for ax in axes.flat[max(len(panels) - columns, 0):len(panels)]:
            ax.set_xlabel(textwrap.fill(xlabel, 60 // columns))
        if isinstance(next(iter(values.values())), Mapping):
            fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def _each(found: np.ndarray | Mapping[str, np.ndarray]) -> Iterable[np.ndarray]:
    return found.values() if isinstance(found, Mapping) else [found]
