"""Rows of panels over training steps, all drawn one way: the ground of the adaptive optimizers' figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gfm.figures import style

__all__ = ["Curve", "Panel", "data_of", "draw"]


@dataclass(frozen=True)
class Curve:
    """y over x (both (m,)), drawn in a role of ``style.ROLES``, with changes; NaN is not drawn."""

    x: np.ndarray
    y: np.ndarray
    label: str
    role: str = "discrete"
    look: dict[str, Any] = field(default_factory=dict)

    def draw(self, axes: Axes) -> None:
        """Add the curve to ``axes``, without the points where y is not finite."""
        known = np.isfinite(self.y)
        axes.plot(np.asarray(self.x)[known], np.asarray(self.y)[known], label=self.label or None,
                  **style.line(self.role, **self.look))


@dataclass(frozen=True)
class Panel:
    """One set of axes: curves, title (the finding), labels, a level drawn as the threshold."""

    title: str
    ylabel: str
    curves: Sequence[Curve]
    level: float | None = None
    level_label: str = ""
    log: bool = False
    logx: bool = False
    ylim: tuple[float | None, float | None] = (None, None)
    xlabel: str = "step"
    legend: bool = True


def draw(panels: Sequence[Panel], columns: int = 2, height: float = 2.8) -> Figure:
    """The panels, row by row; x axes are shared where all have the same label."""
    rows = -(-len(panels) // columns)
    shared = len({p.xlabel for p in panels}) == 1
    with style.use():
        figure, grid = plt.subplots(
            rows, columns, figsize=(8.6 if columns > 1 else 5.6, height * rows), sharex=shared, squeeze=False
        )
        for axes, panel in zip(grid.flat, panels, strict=False):
            for curve in panel.curves:
                curve.draw(axes)
            if panel.level is not None:
                axes.axhline(panel.level, label=panel.level_label or None, **style.line("threshold"))
            axes.set(title=panel.title, ylabel=panel.ylabel)
            if panel.log:
                axes.set_yscale("log")
            if panel.logx:
                _log_x(axes)
            axes.set_ylim(*panel.ylim)
            if panel.legend:
                axes.legend(loc="best", handlelength=2.4)
        for axes in grid.flat[len(panels):]:
            axes.set_visible(False)
        for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
            if not shared or place >= len(panels) - columns:
                axes.set_xlabel(panel.xlabel)
                axes.tick_params(labelbottom=True)
        figure.align_ylabels()
    return figure


def _log_x(axes: Axes) -> None:
    """A logarithmic x axis whose labels do not run into each other."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    wide = high > 200 * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if not wide:
        axes.xaxis.set_major_formatter("{x:g}")


def data_of(panels: Sequence[Panel]) -> dict[str, np.ndarray]:
    """The curves' numbers by name ("panel: label"), with their x, so that a figure redraws from its files."""
    data: dict[str, np.ndarray] = {}
    for panel in panels:
        for number, curve in enumerate(panel.curves):
            name = f"{panel.ylabel}: {curve.label or number}"
            if name in data:
                name = f"{panel.title}: {curve.label or number}"
            data[f"{panel.xlabel} of {name}"] = np.asarray(curve.x, dtype=float)
            data[name] = np.asarray(curve.y, dtype=float)
    return data
