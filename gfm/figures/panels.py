"""Rows of panels over training steps in a uniform style, from which many figures are made."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from gfm.central import Run
from gfm.errors import InputError
from gfm.figures import style
from gfm.measures.comparison import alike
from gfm.measures.edge import effective

__all__ = [
    "Curve", "Panel", "arrival", "averaged", "data_of", "draw", "effective_eigenvalues", "eigenvalues",
    "steps_of",
]


@dataclass(frozen=True)
class Curve:
    """y over x (both (m,)), drawn in the style of a role (``style.ROLES``) with changes; NaN is not drawn."""

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
    """One set of axes: curves, a title (the finding), labels, a level drawn as the threshold, and moments."""

    title: str
    ylabel: str
    curves: Sequence[Curve]
    level: float | None = None
    level_label: str = ""
    moments: Sequence[float] = ()
    moment_label: str = ""
    log: bool = False
    logx: bool = False
    ylim: tuple[float | None, float | None] = (None, None)
    xlabel: str = "step"
    backwards: bool = False  # whether x falls to the right
    legend: bool = True


def steps_of(run: Run) -> np.ndarray:
    """(steps + 1,) the step numbers of a run."""
    return np.arange(run.steps + 1)


def effective_eigenvalues(run: Run, process: str, most: int) -> list[np.ndarray]:
    """The largest effective eigenvalues that were measured, each (steps + 1,), at most ``most``; the edge is at 2."""
    return [column for column in effective(run, process).T[:most] if np.isfinite(column).sum() > 1]


def eigenvalues(run: Run, name: str, most: int, look: dict[str, Any]) -> list[Curve]:
    """The largest effective eigenvalues of the optimizer, drawn with ``look``, and of its central flow."""
    return [
        Curve(steps_of(run), values, label if i == 0 else "", process, changes)
        for process, label, changes in (("discrete", name, look), ("central", "central flow", {}))
        for i, values in enumerate(effective_eigenvalues(run, process, most))
    ]


def averaged(step: np.ndarray, seen: np.ndarray, predicted: np.ndarray, window: float, name: str, *,
             look: dict[str, Any], prediction: str = "central flow: predicted") -> list[Curve]:
    """The optimizer's values (steps + 1,), their average, and the central flow's prediction of it, averaged alike."""
    average, predicted = alike(seen, predicted, window)
    return [
        Curve(step, seen, name, look=look),
        Curve(step, average, "the same, smoothed", "smoothed"),
        Curve(step, predicted, prediction, "predicted"),
    ]


def arrival(run: Run, steps: slice, name: str, scale: np.ndarray | float = 1.0) -> list[Curve]:
    """The squared swing along the first critical direction and its predicted variance where positive, for some steps.

    ``scale`` is a number or one for each of these steps, (m,). There are no curves if the flow never had a critical
    direction.
    """
    central = run["central"]
    if not central.sigma.shape[1]:
        return []
    swing, variance = (values[steps, 0] * scale for values in (central.displacement**2, central.sigma))
    with np.errstate(invalid="ignore"):
        variance = np.where(variance > 0, variance, np.nan)
    step = steps_of(run)[steps]
    return [
        Curve(step, swing, name, look={"linewidth": 0.8}),
        Curve(step, variance, "central flow: predicted", "predicted"),
    ]


def draw(panels: Sequence[Panel], columns: int = 2, height: float = 2.6, align: bool = True) -> Figure:
    """Draw the panels row by row; the x axis is shared if all panels have the same x label.

    A last panel that would stand alone in its row takes all of it.

    Args:
        panels: in reading order.
        columns: number of panels in a row.
        height: of a row, in inches.
        align: whether the labels of the y axes are aligned.

    Raises:
        InputError: There are no panels.
    """
    if not panels:
        raise InputError("There are no panels to draw.")
    columns = min(columns, len(panels))
    shared = len({p.xlabel for p in panels}) == 1
    with style.use():
        figure, grid = _grid(len(panels), columns, height, shared)
        for axes, panel in zip(grid, panels, strict=True):
            for curve in panel.curves:
                curve.draw(axes)
            if panel.level is not None:
                axes.axhline(panel.level, label=panel.level_label or None, **style.line("threshold"))
            for number, moment in enumerate(panel.moments):
                axes.axvline(moment, label=(panel.moment_label or None) if number == 0 else None,
                             **style.line("threshold", linestyle=":"))
            axes.set(title=panel.title, ylabel=panel.ylabel)
            if panel.log:
                style.log(axes.yaxis)
            if panel.ylim != (None, None):
                axes.set_ylim(*panel.ylim)
            if panel.logx:
                style.log(axes.xaxis)
            if panel.backwards:
                axes.invert_xaxis()
            if panel.legend and axes.get_legend_handles_labels()[0]:
                axes.legend(loc="best", handlelength=2.4)
        left = len(panels) % columns  # in an incomplete last row, which is not aligned with the row above
        lowest = len(panels) - columns - left
        for place, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
            if not shared or place >= lowest:
                axes.set_xlabel(panel.xlabel)
            else:
                axes.tick_params(labelbottom=False)
        if align:
            figure.align_ylabels()
        _make_room(figure)
    return figure


def _grid(number: int, columns: int, height: float, shared: bool) -> tuple[Figure, list[Axes]]:
    rows = -(-number // columns)
    figure = plt.figure(figsize=(style.WIDTH, height * rows))
    cells = figure.add_gridspec(rows, columns)
    grid: list[Axes] = []
    for place in range(number):
        row, column = divmod(place, columns)
        last = place == number - 1
        where = cells[row, column:] if last else cells[row, column]
        grid.append(figure.add_subplot(where, sharex=grid[0] if shared and grid else None))
    return figure, grid


def _make_room(figure: Figure) -> None:
    """Enlarge the y axis if the legend would cover a curve everywhere, and put the legend at the top.

    Axes that cut a curve off at the top stay as they are: a larger axis would only show more of that curve.
    """
    figure.canvas.draw()
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is None or _cut(axes) or not _covers(axes, legend.get_window_extent()):
            continue
        handles, labels = axes.get_legend_handles_labels()
        for columns in (2, 1) if len(labels) > 3 else (1,):
            box = axes.legend(handles, labels, loc="upper right", ncols=columns, handlelength=2.4).get_window_extent()
            if box.width <= axes.bbox.width:
                break
        share = min(box.height / axes.bbox.height + 0.05, 0.6)
        scale = axes.yaxis.get_transform()
        low, high = scale.transform(np.array(axes.get_ylim()))
        axes.set_ylim(top=float(scale.inverted().transform(np.array([low + (high - low) / (1.0 - share)]))[0]))


def _cut(axes: Axes) -> bool:
    """Whether a curve goes on above the axes."""
    curves = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines
              if line.get_transform() == axes.transData]
    return any(len(y) and np.nanmax(y) > axes.get_ylim()[1] for y in curves)


def _covers(axes: Axes, box: Bbox) -> bool:
    """Whether a box in display coordinates meets one of the lines, vertical ones over the whole height excepted."""
    lines = [line for line in axes.lines if line.get_transform() != axes.get_xaxis_transform(which="grid")]
    paths = (line.get_transform().transform_path(line.get_path()) for line in lines)
    return any(len(path) and path.intersects_bbox(box, filled=False) for path in paths)


def data_of(panels: Sequence[Panel]) -> dict[str, np.ndarray]:
    """The curves' x and y by name ("panel: label"), so that a figure can be redrawn from its files."""
    data: dict[str, np.ndarray] = {}
    for panel in panels:
        for number, curve in enumerate(panel.curves):
            name = f"{panel.ylabel}: {curve.label or number}"
            if name in data:
                name = f"{panel.title}: {curve.label or number}"
            data[f"{panel.xlabel} of {name}"] = np.asarray(curve.x, dtype=float)
            data[name] = np.asarray(curve.y, dtype=float)
    return data
