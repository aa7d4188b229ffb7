"""Figures of the derivation of the central flow: a swing in a cubic, and the projection of the gradient."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style
from gfm.figures.slider import Curve, SliderPanel, slider

__all__ = ["projection", "swing", "swing_slider"]


def swing(cycles: Mapping[str, tuple[np.ndarray, np.ndarray]], predicted: float, edge: float) -> Figure:
    """One swing over time, and several as curves in sharpness and size.

    Args:
        cycles: label -> (steps,) displacements and (steps,) sharpness of one cycle; the first is shown over time.
        predicted: the swing's mean square at which the sharpness stays.
        edge: 2 / lr.
    """
    with style.use():
        figure, (time, plane) = style.subplots(1, 2, 3.4, width_ratios=(1.25, 1))
        x, _ = next(iter(cycles.values()))
        step = np.arange(len(x))
        time.plot(step, x, **style.line("discrete", linewidth=0.8))
        for sign in (1, -1):
            time.axhline(sign * predicted**0.5, **style.line("predicted"))
        time.text(0, 1.08 * predicted**0.5, "± predicted σ", fontsize=style.SMALL)
        time.set(xlabel="step", ylabel="displacement x", title="One cycle of the swing")
        looks = [style.line("discrete", linestyle=dashes) for dashes in ("-", (0, (5, 2)), (0, (1, 1)))]
        for (label, (x, sharpness)), look in zip(cycles.items(), looks, strict=False):
            plane.plot(sharpness, np.abs(x) / predicted**0.5, label=label, **look)
        plane.axvline(edge, **style.line("threshold"))
        plane.plot(edge, 1, "o", markersize=7, color=style.ROLES["central"]["color"], label="the balance")
        plane.set(xlabel="sharpness S (dotted: 2 / lr)", ylabel="|x| / σ", title="Cycles around one balance")
        plane.set_ylim(bottom=0.12 * min(np.abs(x).min() for x, _ in cycles.values()) / predicted**0.5)
        style.log(plane.yaxis)
        plane.legend(loc="lower center", ncols=2)
    return figure


def swing_slider(x: np.ndarray, sharpness: np.ndarray, predicted: float, edge: float, name: str, alt: str) -> str:
    """The first cycle with a slider over its steps, as HTML.

    Args:
        x: (steps,) displacements.
        sharpness: (steps,) along the way.
        predicted: the swing's mean square at which the sharpness stays.
        edge: 2 / lr.
        name: made of letters, digits and hyphens; unique on the page.
        alt: the finding in words.
    """
    step, size = np.arange(len(x)), 1.15 * np.abs(x).max()
    level, wide = predicted**0.5, 1.2 * np.abs(sharpness - edge).max()
    ends = (0.0, float(step[-1]))
    panels = [
        SliderPanel("The swing (dotted: ± predicted σ)", "step", "displacement x",
              [Curve(step, x, "gradient descent")], ends, (-size, size),
              lines={s: np.array([[0, v], [ends[1], v]]) for s, v in (("+ σ", level), ("− σ", -level))}),
        SliderPanel("Its sharpness (dotted: 2 / lr)", "step", "sharpness S",
              [Curve(step, sharpness, "gradient descent")], ends, (edge - wide, edge + wide),
              lines={"2 / lr": np.array([[0, edge], [ends[1], edge]])}),
    ]
    return slider(panels, step, name=name, alt=alt, readings={"S": sharpness, "|x|/σ": np.abs(x) / level})


def projection(descent: np.ndarray, push: np.ndarray, steepening: np.ndarray) -> Figure:
    """The negative gradient, the push of the oscillation, and their sum along the border of the stable region.

    Args:
        descent: (2,) the negative gradient.
        push: (2,) the oscillation's push.
        steepening: (2,) the gradient of the sharpness, across the border.
    """
    with style.use():
        figure, ax = style.subplots(height=3.2)
        along = np.array([-steepening[1], steepening[0]]) / np.linalg.norm(steepening)
        across = steepening / np.linalg.norm(steepening)
        far = 3 * np.linalg.norm(descent)
        corners = np.stack([-far * along, far * along, far * along + far * across, -far * along + far * across])
        ax.fill(*corners.T, color=style.ROLES["unstable"]["color"], alpha=0.1, linewidth=0)
        ax.plot(*np.stack([-far * along, far * along]).T, **style.line("unstable"))
        arrows = [("−∇L: gradient flow", np.zeros(2), descent, "stable", (-10, 4), "right"),
                  ("−½ σ² ∇S: the oscillation's push", descent, push, "smoothed", (12, 0), "left"),
                  ("their sum: the central flow", np.zeros(2), descent + push, "central", (-10, -14), "right")]
        for label, start, arrow, role, away, side in arrows:
            colour = style.ROLES[role]["color"]
            ax.annotate("", tuple(start + arrow), tuple(start),
                        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.2})
            ax.annotate(label, tuple(start + 0.5 * arrow), away, textcoords="offset points", color=colour, ha=side)
        reach = 1.25 * np.abs(np.stack([descent, descent + push])).max()
        ax.text(0.98, 0.95, "sharpness above 2 / lr", color=style.ROLES["unstable"]["color"], transform=ax.transAxes,
                ha="right", va="top")
        ax.set(xlim=(-1.1 * reach, 2.3 * reach), ylim=(-0.45 * reach, 0.95 * reach), aspect="equal",
               xlabel="weight 1", ylabel="weight 2", title="At the border the flow keeps what does not steepen")
        ax.grid(False)
    return figure
