"""Figures of the valley: paths over the contours of the loss, and paths projected on the floor."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.figures import style
from gfm.figures.slider import Curve, SliderPanel, slider

__all__ = ["floor_plane", "valley", "valley_slider"]

_UNSTABLE = "sharpness above 2 / lr"
_FIRST = 150  # steps drawn one by one
_LAST = 24  # steps enlarged


def _first_steps(ax: Axes, run: Run) -> None:
    """Gradient descent's first steps from above, fading, and the midpoints of all its steps."""
    w = run["discrete"].weights
    first = w[: _FIRST + 1, 1::-1]
    look = style.ROLES["discrete"]
    fading = [to_rgba(look["color"], share) for share in np.linspace(1.0, 0.2, len(first) - 1)]
    ax.add_collection(LineCollection(list(np.stack([first[:-1], first[1:]], 1)), colors=fading,
                                     linewidths=look["linewidth"], zorder=3, label=f"gradient descent, {_FIRST} steps"))
    ax.scatter(first[1:, 0], first[1:, 1], s=5, c=fading, linewidths=0, zorder=3)
    middle = (w[:-1] + w[1:]) / 2
    ax.plot(middle[:, 1], middle[:, 0], zorder=5, label="midpoints of all its steps", **style.line("midpoint"))


def _paths(ax: Axes, run: Run, vertical: int, names: Iterable[str] = tuple(style.PROCESSES)) -> None:
    """The paths over the second weight, which runs along the valley."""
    for name in names:
        w, width = run[name].weights, 0.8 if name == "discrete" else 2.2
        ax.plot(w[:, 1], w[:, vertical], label=style.PROCESSES[name], zorder=3, **style.line(name, linewidth=width))
        if name != "discrete":
            ax.plot(w[-1, 1], w[-1, vertical], "o", color=style.ROLES[name]["color"], zorder=4)
    w = run["discrete"].weights
    if "discrete" in names:
        ax.plot(w[:, 1], w[:, vertical], ".", markersize=2.5, color=style.COLOURS["blue"], zorder=3)
    ax.plot(w[0, 1], w[0, vertical], zorder=5, **style.START)


def _landscape(ax: Axes, x: np.ndarray, y: np.ndarray, loss: np.ndarray, lowest: float, sharpness: np.ndarray,
               edge: float) -> None:
    """Contours of the loss, from ``lowest`` above its minimum, and the region above the edge, shaded."""
    ax.contourf(x, y, sharpness, levels=[edge, np.inf], colors=[style.ROLES["unstable"]["color"]], alpha=0.1)
    ax.contour(x, y, sharpness, levels=[edge], colors=[style.ROLES["unstable"]["color"]], linewidths=1)
    levels = np.geomspace(loss.min() + lowest, loss.max(), 12)
    ax.contour(x, y, loss, levels=levels, colors=style.COLOURS["pale"], linewidths=0.7)
    ax.text(0.99, 0.02, _UNSTABLE, color=style.ROLES["unstable"]["color"], transform=ax.transAxes, ha="right", zorder=4)
    ax.grid(False)


def valley(run: Run, x: np.ndarray, y: np.ndarray, loss: np.ndarray, sharpness: np.ndarray) -> Figure:
    """The valley from above, its sharpness along the paths, and the last steps enlarged.

    Args:
        run: with two weights (x across the valley, y along it), kept at every step.
        x: grid across the valley.
        y: grid along it.
        loss: (len(y), len(x)) on the grid.
        sharpness: (len(y), len(x)) on the grid.
    """
    edge = 2.0 / run.settings["lr"]
    with style.use():
        figure, grid = plt.subplot_mosaic([["above", "above"], ["time", "near"]], figsize=(style.WIDTH, 6.4))
        above, time, near = (grid[name] for name in ("above", "time", "near"))
        _landscape(above, y, x, loss.T, 0.02, sharpness.T, edge)
        _first_steps(above, run)
        _paths(above, run, 0, ("stable", "central"))
        above.set(
            xlabel="weight y (along the valley)", ylabel="weight x (across)",
            title="Gradient descent zig-zags; the flows do not"
        )
        above.set(xlim=(y[0], y[-1]), ylim=(x[0], x[-1]))
        above.legend(loc="upper left", ncols=1, frameon=True, framealpha=0.9, edgecolor="none")

        step = np.arange(run.steps + 1)
        top = run["discrete"].eigenvalues[:, 0] * edge / run.settings["threshold"]
        swing = np.abs(run["discrete"].weights[:, 0] - run["central"].weights[:, 0])
        time.plot(step, top, label="gradient descent", **style.line("discrete", linewidth=1.4))
        time.plot(step, run["stable"].eigenvalues[:, 0] * edge / 2, label="gradient flow", **style.line("stable"))
        time.plot(step, run["central"].eigenvalues[:, 0] * edge / 2, label="central flow", **style.line("central"))
        time.axhline(edge, **style.line("threshold"))
        time.set(xlabel="step", ylabel="sharpness", title=f"Above {edge:.3g} the swing grows")
        reach = max(top.max() - edge, edge - top.min())
        time.set_ylim(edge - 1.1 * reach, edge + 1.7 * reach)
        side = time.twinx()
        side.fill_between(step, 0, swing, color=style.COLOURS["sky"], alpha=0.35, linewidth=0)
        side.set_ylim(0, 3.2 * swing.max())
        side.set_yticks([])
        side.text(run.steps, 0.05 * swing.max(), "size of the swing", ha="right", fontsize=style.SMALL,
                  color=style.COLOURS["blue"])
        side.grid(False)
        time.set_zorder(side.get_zorder() + 1)
        time.patch.set_visible(False)
        time.legend(loc="upper right")

        w, c = run["discrete"].weights[-_LAST:], run["central"].weights[-1]
        mean = w.mean(0)
        for point in w:
            near.plot([c[1], point[1]], [c[0], point[0]], color=style.COLOURS["sky"], linewidth=0.8)
        near.plot(w[:, 1], w[:, 0], "o", markersize=4, color=style.COLOURS["blue"], label="gradient descent, $w_t$")
        near.plot(mean[1], mean[0], "P", markersize=9, color=style.COLOURS["orange"], label="its average")
        near.plot(c[1], c[0], "o", markersize=8, color=style.COLOURS["black"], label="central flow, $w(t)$")
        spread = np.sqrt(np.nansum(run["central"].sigma[-1]) * run.settings["lr"])
        near.errorbar(
            c[1], c[0], yerr=spread, color=style.COLOURS["black"], capsize=5, linewidth=1.6,
            label=r"$\pm$ predicted $\sigma$"
        )
        near.set(xlabel="weight y (along the valley)", ylabel="weight x (across)",
                 title=rf"The last {_LAST} steps: $w_t = w(t) + \delta_t$")
        reach = np.abs(w[:, 0] - c[0]).max()
        near.set_ylim(c[0] - 1.9 * reach, c[0] + 3.4 * reach)
        near.set_box_aspect(0.8)
        near.set_xlim(c[1] - 2.65 * reach / 0.8, c[1] + 2.65 * reach / 0.8)  # one scale for both axes
        near.legend(loc="upper right", ncols=1)
    return figure


def floor_plane(
    run: Run, y: np.ndarray, z: np.ndarray, loss: np.ndarray, sharpness: np.ndarray, lowest: np.ndarray
) -> Figure:
    """Three weights: paths projected on the floor, and the swing across it with its predicted size.

    Args:
        run: with weights (x, y, z), kept at every step.
        y: first coordinate of the grid on the floor.
        z: second coordinate of the grid.
        loss: (len(z), len(y)) on the floor above the grid.
        sharpness: (len(z), len(y)) on the floor above the grid.
        lowest: (3,) the lowest point of the stable region.
    """
    with style.use():
        figure, (plane, time) = style.subplots(1, 2, 3.8)
        _landscape(plane, y, z, loss, 0.01, sharpness, 2.0 / run.settings["lr"])
        _paths(plane, run, 2)
        plane.plot(lowest[1], lowest[2], "*", markersize=15, color=style.COLOURS["orange"],
                   markeredgecolor=style.COLOURS["black"],
                   label="lowest stable point", zorder=6, linestyle="none")
        plane.set(xlabel="weight y", ylabel="weight z", title="On the floor: along the border")
        plane.legend(loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")
        step = np.arange(run.steps + 1)
        swing = run["discrete"].weights[:, 0] - run["central"].weights[:, 0]
        spread = np.sqrt(np.nansum(run["central"].sigma, 1) * run.settings["lr"])
        time.plot(step, swing, label="gradient descent", **style.line("discrete", linewidth=0.7))
        for sign in (1, -1):
            time.plot(
                step, sign * spread, label=r"central flow: $\pm\sigma$" if sign > 0 else None, **style.line("predicted")
            )
        time.set(xlabel="step", ylabel="swing across the valley (x)", title="Across: swings of size ±σ")
        time.legend(loc="upper right")
    return figure


def valley_slider(run: Run, border: np.ndarray, floor: np.ndarray, name: str, alt: str) -> str:
    """The two-weight valley with a slider over the steps, as HTML.

    Args:
        run: with two weights (x across the valley, y along it), kept at every step.
        border: (m, 2) points (y, x) where the sharpness is 2 / lr, ordered by x.
        floor: (m, 2) points (y, x) of the floor.
        name: made of letters, digits and hyphens; unique on the page.
        alt: the finding in words.
    """
    steps = np.arange(run.steps + 1)
    w = {p: run[p].weights.astype(float) for p in style.PROCESSES}
    scale = 2.0 / run.settings["lr"] / run.settings["threshold"]
    top = {p: run[p].eigenvalues[:, 0] * scale for p in style.PROCESSES}
    every_y = np.concatenate([v[:, 1] for v in w.values()])
    every_x = np.concatenate([v[:, 0] for v in w.values()])
    ends_y = (every_y.min() - 0.1, every_y.max() + 0.25)
    ends_x = (every_x.min() - 0.1, every_x.max() + 0.1)
    corners = np.concatenate([border, [[ends_y[1], border[-1, 1]], [ends_y[1], border[0, 1]]]])
    edge = 2.0 / run.settings["lr"]
    spread = max(abs(top["discrete"] - edge).max(), 0.05 * edge)
    panels = [
        SliderPanel("The valley from above", "weight y (along)", "weight x (across)",
              [Curve(w[p][:, 1], w[p][:, 0], label, p) for p, label in style.PROCESSES.items()], ends_y, ends_x,
              areas={_UNSTABLE: corners}, lines={"floor": floor}),
        SliderPanel("Its sharpness (dotted: 2 / lr)", "step", "sharpness",
              [Curve(steps, top[p], label, p) for p, label in style.PROCESSES.items()], (0, float(steps[-1])),
              (edge - 1.1 * spread, edge + 1.1 * spread), lines={"2 / lr": np.array([[0, edge], [steps[-1], edge]])}),
    ]
    return slider(
        panels, steps, name=name, alt=alt, readings={"sharpness": top["discrete"], "2/lr": np.full(len(steps), edge)}
    )
