"""Figures of fields and of paths along them."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["fields", "paths", "two_kinds"]


def fields(
    grid: np.ndarray, learned: np.ndarray, true: np.ndarray, visited: np.ndarray, runs: np.ndarray, flows: np.ndarray
) -> Figure:
    """The true and the learned field as arrows, with paths from the same starts, and the angle between the fields.

    Args:
        grid: (g, g, 2) places.
        learned: (g, g, 2) learned field there.
        true: (g, g, 2) true field there.
        visited: (g, g) counts; arrows of unvisited cells are pale.
        runs: (paths, states, 2) recorded paths.
        flows: (paths, states, 2) paths along the learned field.
    """
    with style.use():
        fig, axes = style.subplots(1, 3, 3.4, sharex=True, sharey=True)
        titles = ("Minus gradient", "Learned field", "Angle between")
        for ax, field, lines, role in zip(axes, (true, learned), (runs, flows), ("discrete", "gfm"), strict=False):
            size = np.linalg.norm(field, axis=-1, keepdims=True)
            arrows = field / np.sqrt(np.maximum(size, 1e-6))  # length goes with the root, so short ones stay visible
            for mask, colour in ((visited > 0, "grey"), (visited == 0, "pale")):
                ax.quiver(grid[mask][:, 0], grid[mask][:, 1], arrows[mask][:, 0], arrows[mask][:, 1],
                          color=style.COLOURS[colour], angles="xy", scale=9, width=0.006)
            look = style.line(role, linewidth=1.4, marker="")
            for line in lines:
                ax.plot(line[:, 0], line[:, 1], **look)
                ax.plot(*line[0], **{**style.START, "markersize": 4})
                ax.plot(*line[-1], "s", color=look["color"], markersize=4)
        along = (learned * true).sum(-1) / np.maximum(np.prod(np.linalg.norm([learned, true], axis=-1), 0), 1e-300)
        angle = np.where(visited > 0, np.degrees(np.arccos(along.clip(-1, 1))), np.nan)
        colours = axes[2].pcolormesh(grid[..., 0], grid[..., 1], angle, cmap="cividis_r", vmin=0, vmax=45,
                                     shading="nearest", rasterized=True)
        fig.colorbar(colours, ax=axes[2], label="degrees", extend="max", location="bottom", shrink=0.9)
        x = np.linspace(0.42, 2.4, 50)
        for ax, title in zip(axes, titles, strict=True):
            for sign in (1, -1):
                ax.plot(sign * x, sign / x, **style.line("threshold"))
            ax.set(title=title, xlabel="weight $w_1$", xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), aspect="equal")
            ax.grid(False)
        axes[0].set_ylabel("weight $w_2$")
        handles = [
            plt.Line2D([], [], **{**style.START, "markersize": 4}, label="start"),
            plt.Line2D([], [], **style.line("discrete"), label="recorded"),
            plt.Line2D([], [], **style.line("gfm", marker=""), label="along the field"),
            plt.Line2D([], [], **style.line("threshold"), label="minima"),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


def paths(panels: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]], titles: dict[str, str], observed: int) -> Figure:
    """True and forecast weights of single runs against the step.

    Args:
        panels: title -> (truth (states,), forecaster -> (horizon,) forecast).
        titles: forecaster -> name in the legend.
        observed: last observed step.
    """
    with style.use():
        columns = 2
        rows = -(-len(panels) // columns)
        fig, axes = style.subplots(rows, columns, 2.4, squeeze=False, sharex=True)
        for ax, (title, (truth, forecasts)) in zip(axes.flat, panels.items(), strict=False):
            ax.axvspan(0, observed, color=style.COLOURS["pale"], alpha=0.6, linewidth=0, label="observed")
            ax.plot(truth, label="recorded run", **style.line("truth", linewidth=1.4))
            for name, look in style.forecasters(forecasts, markevery=(9, 40), markersize=4).items():
                if name in forecasts:
                    ax.plot(np.arange(observed + 1, len(truth)), forecasts[name], label=titles[name], **look)
            low, high = truth.min(), truth.max()
            margin = 0.35 * (high - low) + 1e-9
            ax.set(title=title, ylim=(low - margin, high + margin))
        style.labels_around(fig, axes, "optimizer step", "weight", loc="outside lower center", ncols=4)
    return fig


def two_kinds(
    times: np.ndarray, runs: np.ndarray, flow: np.ndarray, up: np.ndarray,
    field: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Figure:
    """Recorded runs of two kinds, and paths along their mean field over that field's value as colour.

    Args:
        times: (states,).
        runs: (states, paths) recorded.
        flow: (states, paths) from the same starts along the field.
        up: (paths,) whether a run is of the first kind.
        field: (places, times) -> velocities.
    """
    with style.use():
        figure, axes = style.subplots(1, 2, 3.6, sharex=True, sharey=True)
        reach = 1.1 * max(np.abs(runs).max(), np.abs(flow).max())
        places = np.linspace(-reach, reach, 161)
        colours = axes[1].pcolormesh(times, places, field(places[:, None], times), cmap="BrBG", shading="auto",
                                     alpha=0.55, rasterized=True)
        for ax, lines, title in zip(axes, (runs, flow), ("Recorded runs cross", "Paths of the mean field do not"),
                                    strict=True):
            kinds = (("first kind", up), ("second kind", ~up))
            for (label, kind), look in zip(kinds, style.cycle(2), strict=True):
                ax.plot(times, lines[:, kind], linewidth=0.9, **look)
                ax.plot([], [], label=label, **look)
            ax.set(title=title, xlabel="time t", xlim=(times[0], times[-1]), ylim=(-reach, reach))
        axes[0].set_ylabel("weight x")
        axes[0].legend(loc="upper center", ncols=2)
        figure.colorbar(colours, ax=axes[1], label="mean velocity")
    return figure
