"""Figures of descent on quadratics."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["one_weight", "two_weights"]


def one_weight(
    paths: Mapping[float, np.ndarray], curvature: float, products: np.ndarray, factors: np.ndarray
) -> Figure:
    """Gradient descent on a parabola, and how fast it grows or shrinks.

    Args:
        paths: learning rate -> (steps + 1, 1) weights; one panel for each.
        curvature: of the parabola.
        products: (m,) learning rate times curvature.
        factors: (m,) measured growth per step.
    """
    with style.use():
        figure, grid = style.subplots(-(-(len(paths) + 1) // 2), 2, 2.6, squeeze=False)
        axes = grid.flat
        for ax in axes[len(paths) + 1:]:
            ax.set_visible(False)
        reach = 1.15 * max(np.abs(p).max() for p in paths.values())
        grid = np.linspace(-reach, reach, 200)
        for ax, (lr, path) in zip(axes, paths.items(), strict=False):
            loss, product = 0.5 * curvature * path**2, lr * curvature
            ax.plot(grid, 0.5 * curvature * grid**2, **style.line("truth", linewidth=1.2))
            ax.plot(path, loss, marker="o", markersize=4, **style.line("discrete", linewidth=1.0))
            ax.plot(path[0], loss[0], **style.START)
            ax.set(xlabel="weight", title=f"lr · S = {product:.3g} {'<' if product < 2 else '>'} 2")
            ax.set_yticks([])
            ax.set_ylabel("loss")
        last = axes[len(paths)]
        last.axvspan(2, products.max(), color=style.ROLES["unstable"]["color"], alpha=0.1, linewidth=0)
        grid = np.linspace(0, products.max(), 200)
        last.plot(grid, np.abs(1 - grid), label="|1 − lr · S|", **style.line("truth", linewidth=1.2))
        last.plot(products, factors, "o", label="measured", markersize=4, color=style.COLOURS["blue"])
        last.axhline(1, **style.line("threshold"))
        last.text(2.05, 0.05, "diverges", color=style.ROLES["unstable"]["color"])
        last.set(xlabel="learning rate × curvature", ylabel="growth in a step", title="Growth passes 1 at 2")
        last.legend(loc="upper center")
    return figure


def two_weights(panels: Sequence[Mapping[str, Any]]) -> Figure:
    """Paths on two-weight quadratics over the loss's contours, with the direction in which they diverge.

    Args:
        panels: each with ``title``, ``H`` (2, 2), ``path`` (steps + 1, 2) and ``directions``:
            label -> ((2,) unit vector, role of ``gfm.figures.style``).
    """
    with style.use():
        figure, axes = style.subplots(1, len(panels), 3.7, squeeze=False)
        for ax, panel in zip(axes[0], panels, strict=True):
            _contours(ax, np.asarray(panel["H"], dtype=float), panel["path"])
            half = np.abs(ax.axis()).max()
            for name, (vector, role) in panel["directions"].items():
                ends = np.outer((-1.6 * half, 1.6 * half), vector)
                ax.plot(ends[:, 0], ends[:, 1], label=name, scalex=False, scaley=False, **style.line(role))
            ax.set(xlabel="weight 1", ylabel="weight 2", title=panel["title"])
            ax.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none")
    return figure


def _contours(ax: Axes, H: np.ndarray, path: np.ndarray) -> None:
    reach = 1.15 * np.abs(path).max()
    grid = np.linspace(-reach, reach, 160)
    x, y = np.meshgrid(grid, grid)
    loss = 0.5 * (H[0, 0] * x**2 + 2 * H[0, 1] * x * y + H[1, 1] * y**2)
    ax.contour(x, y, np.sqrt(loss), levels=9, colors=style.COLOURS["pale"], linewidths=0.8)
    ax.plot(path[:, 0], path[:, 1], marker="o", markersize=3.5, **style.line("discrete"))
    ax.plot(*path[0], **style.START)
    ax.set_aspect("equal")
    ax.set_xlim(-reach, reach)
    ax.set_ylim(-reach, reach)
    ax.grid(False)
