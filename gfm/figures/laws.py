"""Figures of what a memoryless field cannot do, and of the distribution (law) of the weights."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from gfm.figures import style

__all__ = ["densities", "memoryless"]


def memoryless(
    now: np.ndarray, later: np.ndarray, flow: np.ndarray, monotone: np.ndarray, bars: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Left: test weights at the end against those at step 20, and the two maps; right: errors.

    Args:
        now: (points,) weights at step 20.
        later: (points,) weights at the end.
        flow: (points,) the flow's forecast of the end.
        monotone: (points,) the monotone map's forecast of the end.
        bars: group -> forecaster -> error at the end.
    """
    order = np.argsort(now)
    with style.use():
        fig, (left, right) = style.subplots(1, 2, 3.4)
        left.plot(now, later, "o", color=style.COLOURS["grey"], markersize=4, label="test runs")
        looks = style.cycle(2, markers=True)
        left.plot(now[order], monotone[order], label="monotone map",
                  color=looks[1]["color"], linestyle=looks[1]["linestyle"], linewidth=2.4)
        left.plot(now[order], flow[order], color=looks[0]["color"], linestyle="-", label="flow of v(w, t)")
        left.set(xlabel="weight at step 20", ylabel="weight at step 200", title="Many tasks: one map for all")
        left.legend(loc="upper left")
        names = list(next(iter(bars.values())))
        for (group, errors), look in zip(bars.items(), looks, strict=True):
            right.plot([errors[n] for n in names], range(len(names)), linestyle="none",
                       marker=look["marker"], color=look["color"], markersize=8, label=group)
        right.set_yticks(range(len(names)), names)
        right.invert_yaxis()
        right.set(xlabel="mean squared error at step 200", title="What each field sees decides")
        style.log(right.xaxis)
        right.legend(loc="upper left", bbox_to_anchor=(0.0, 0.9))
    return fig


def densities(states: np.ndarray, carried: np.ndarray, path: np.ndarray, optimum: float, labels: list[str]) -> Figure:
    """The distribution of one weight at some epochs, in small panels, with one run's weight as a dot.

    Args:
        states: (epochs, runs) recorded weights.
        carried: (epochs, runs) initial weights carried along the learned flow.
        path: (epochs,) the weight of one run.
        optimum: the weight that minimises the loss.
        labels: one per epoch.
    """
    low, high = states.min(), states.max()
    grid = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 300)
    with style.use():
        fig, axes = style.subplots(2, 4, 2.0, sharex=True, sharey=True)
        for number, (ax, label) in enumerate(zip(axes.flat, labels, strict=True)):
            true = gaussian_kde(states[number])(grid)
            ax.fill_between(grid, true, color=style.COLOURS["pale"], linewidth=0, label="recorded runs")
            ax.plot(grid, gaussian_kde(carried[number])(grid), label="learned flow",
                    **style.line("gfm", linewidth=1.4, marker=""))
            ax.axvline(optimum, **style.line("threshold"), label="optimum")
            ax.plot(path[number], 0, "o", color=style.COLOURS["blue"], markersize=7,
                    clip_on=False, zorder=5, label="one run")
            ax.set_title(label)
        axes[0, 0].set_ylim(bottom=0)  # shared by all panels, so set once all are drawn
        style.labels_around(fig, axes, "weight w", "density $p_t(w)$", loc="outside lower center", ncols=4)
    return fig
