"""Figures of the optimizer at the edge of stability, without any flow."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.figures import style
from gfm.measures.edge import Cycle, measured_top
from gfm.measures.flow import upright

__all__ = ["cycle", "learning_rates"]


def learning_rates(runs: Mapping[float, Run]) -> Figure:
    """Loss and sharpness of gradient descent at several learning rates (lr -> run)."""
    with style.use():
        figure, (loss, sharpness) = plt.subplots(1, 2, figsize=(9.6, 3.7))
        for (lr, run), look in zip(runs.items(), style.cycle(len(runs)), strict=True):
            look |= {"linewidth": 1.1, "linestyle": "-"}  # dashes would hide the swings; labels tell the curves apart
            loss.plot(run["discrete"].loss, label=f"lr = {lr:g}", **look)
            steps, top = measured_top(run)
            sharpness.plot(steps, top / lr, label=f"lr = {lr:g}", **look)
            sharpness.axhline(2 / lr, **style.line("threshold"))
            sharpness.text(max(r.steps for r in runs.values()), 1.9 / lr, f"2 / lr = {2 / lr:.3g}", ha="right",
                           va="top", color=style.COLOURS["grey"], fontsize=8.5)
        loss.set(yscale="log", xlabel="step", ylabel="training loss", title="The loss falls, not at every step")
        sharpness.set(xlabel="step", ylabel="sharpness", title="The sharpness rises to 2 / lr and stays",
                      ylim=(0, 1.75 * max(2 / lr for lr in runs)))
        loss.legend()
        sharpness.legend(loc="upper right", ncols=2)
    return figure


def cycle(run: Run, found: Cycle, window: tuple[int, int]) -> Figure:
    """One cycle of the edge and the sawtooth that follows.

    Args:
        run: gradient descent with its central flow, along whose top eigenvector the swing is measured.
        found: the cycle, enlarged on the left.
        window: first and last step of the sawtooth on the right.
    """
    lr, edge = run.settings["lr"], 2.0 / run.settings["lr"]
    margin = max(3, (found.again - found.above) // 6)
    first, last = max(0, found.above - margin), min(run.steps, found.again + margin)
    steps = np.arange(first, last + 1)
    series = run["discrete"]
    swing = upright(run["central"].displacement[:, 0] * lr**0.5)
    with style.use():
        figure, axes = plt.subplot_mosaic(
            [["swing", "saw"], ["sharpness", "saw"], ["loss", "saw"]], figsize=(10.2, 5.6), width_ratios=(1, 1.15)
        )
        for name, values, label in (
            ("swing", swing, "swing along u"), ("sharpness", series.eigenvalues[:, 0] / lr, "sharpness"),
            ("loss", series.loss, "loss"),
        ):
            ax = axes[name]
            ax.axvspan(found.above, found.below, color=style.COLOURS["vermilion"], alpha=0.12, linewidth=0)
            ax.plot(steps, values[first : last + 1], **style.line("discrete", linewidth=1.2))
            ax.set_ylabel(label)
            ax.set_xlim(first, last)
            if name != "loss":
                ax.tick_params(labelbottom=False)
        axes["swing"].set_title("One cycle: shaded, the swing grows")
        axes["sharpness"].axhline(edge, **style.line("threshold"))
        axes["loss"].set_xlabel("step")
        saw = axes["saw"]
        steps = np.arange(window[0], window[1] + 1)
        values = series.eigenvalues[window[0] : window[1] + 1] / lr
        for i, look in enumerate(style.cycle(min(values.shape[1], 2))):
            saw.plot(steps, values[:, i], label=("largest", "second")[i] + " eigenvalue", **{**look, "linewidth": 1.0})
        saw.axhline(edge, label=f"2 / lr = {edge:.3g}", **style.line("threshold"))
        saw.axvspan(first, last, color=style.COLOURS["grey"], alpha=0.12, linewidth=0)
        saw.set(xlabel="step", ylabel="Hessian eigenvalue", title="Cycle after cycle: a sawtooth around 2 / lr")
        saw.legend(loc="upper right")
    return figure
