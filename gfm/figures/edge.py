"""Figures of the optimizer at the edge of stability, without any flow."""

from collections.abc import Mapping
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.figures import style
from gfm.measures.edge import Cycle, measured_top
from gfm.measures.flow import upright

__all__ = ["cycle", "learning_rates"]


def learning_rates(runs: Mapping[float, Run]) -> Figure:
    """Loss and sharpness of gradient descent at several learning rates (lr -> run), over the time lr times step.

    Over this time all runs follow one gradient flow until each meets its own edge.
    """
    last = min(lr * run.steps for lr, run in runs.items())
    with style.use():
        figure, (loss, sharpness) = style.subplots(1, 2, 3.4)
        for (lr, run), look in zip(sorted(runs.items()), style.scale(len(runs)), strict=True):
            look |= {"linewidth": 1.1, "linestyle": "-"}  # dashes would hide the swings; labels tell the curves apart
            loss.plot(lr * np.arange(run.steps + 1), run["discrete"].loss, label=f"lr = {lr:g}", **look)
            steps, top = measured_top(run)
            sharpness.plot(lr * steps, top / lr, label=f"lr = {lr:g}", **look)
            sharpness.axhline(2 / lr, **style.line("threshold"))
            sharpness.text(last, 2.06 / lr, f"2 / lr = {2 / lr:.3g}", ha="right", va="bottom", color=look["color"],
                           fontsize=style.SMALL)
        loss.set(xlabel="time (lr × step)", ylabel="training loss", title="One curve until each meets its edge")
        style.log(loss.yaxis)
        sharpness.set(xlabel="time (lr × step)", ylabel="sharpness", title="Each leaves it at its own 2 / lr",
                      ylim=(0, 1.75 * max(2 / lr for lr in runs)))
        for axes in (loss, sharpness):
            axes.set_xlim(0, last)
        loss.legend()
    return figure


def cycle(run: Run, found: Cycle, window: tuple[int, int]) -> Figure:
    """One cycle of the edge and the sawtooth that follows.

    Args:
        run: gradient descent with its central flow, along whose top eigenvector the swing is measured.
        found: the cycle, enlarged on the left.
        window: first and last step of the sawtooth on the right.
    """
    lr, edge = run.settings["lr"], 2.0 / run.settings["lr"]
    acts = _acts(run, found)
    margin = max(3, (found.again - found.above) // 6)
    first, last = max(0, found.above - margin), min(run.steps, found.again + margin)
    steps = np.arange(first, last + 1)
    series = run["discrete"]
    swing = upright(run["central"].displacement[:, 0] * lr**0.5)
    with style.use():
        figure, axes = plt.subplot_mosaic(
            [["swing", "saw"], ["sharpness", "saw"], ["loss", "saw"]], figsize=(style.WIDTH, 5.2)
        )
        for name, values, label in (
            ("swing", np.abs(swing), "|swing|"), ("sharpness", series.eigenvalues[:, 0] / lr, "sharpness"),
            ("loss", series.loss, "loss"),
        ):
            ax = axes[name]
            ax.axvspan(found.above, found.below, color=style.ROLES["unstable"]["color"], alpha=0.1, linewidth=0)
            for act in acts[1:-1]:
                ax.axvline(act, **style.line("threshold"))
            ax.plot(steps, values[first : last + 1], **style.line("discrete", linewidth=1.2))
            ax.set_ylabel(label)
            ax.set_xlim(first, last)
            if name != "loss":
                ax.tick_params(labelbottom=False)
        style.log(axes["swing"].yaxis)
        axes["swing"].set_title("One cycle in four acts")
        for number, (start, end) in enumerate(pairwise(acts), 1):
            axes["sharpness"].text(0.5 * (start + end), 0.04 + 0.12 * (number % 2), str(number), ha="center",
                                   fontsize=style.SMALL, transform=axes["sharpness"].get_xaxis_transform())
        axes["sharpness"].axhline(edge, **style.line("threshold"))
        axes["loss"].set_xlabel("step")
        saw = axes["saw"]
        steps = np.arange(window[0], window[1] + 1)
        values = series.eigenvalues[window[0] : window[1] + 1] / lr
        for i, look in enumerate(style.shades(min(values.shape[1], 2))):
            saw.plot(steps, values[:, i], label=("largest", "second")[i] + " eigenvalue",
                     **{**look, "linewidth": 1.0, "linestyle": "-"})
        saw.axhline(edge, label=f"2 / lr = {edge:.3g}", **style.line("threshold"))
        saw.axvspan(first, last, color=style.COLOURS["grey"], alpha=0.12, linewidth=0)
        saw.set(xlabel="step", ylabel="Hessian eigenvalue", title="A sawtooth around 2 / lr")
        saw.legend(loc="upper right")
    return figure


def _acts(run: Run, found: Cycle) -> list[int]:
    """Where the acts of a cycle begin, and its end: sharpening, blow-up, stabilisation, calm.

    The swing is measured from the step at which the loss starts to rise to its peak: there blow-up begins.
    Stabilisation begins where the sharpness is largest (averaged over two steps, since it fluctuates with the swing).
    """
    loss, top = run["discrete"].loss, run["discrete"].eigenvalues[:, 0]
    until = slice(found.above, found.below + 1)
    peak = found.above + int(np.argmax(loss[until]))
    seen = found.above + int(np.argmin(loss[found.above : peak + 1]))
    turned = found.above + int(np.argmax(0.5 * (top[until][1:] + top[until][:-1])))
    return sorted({found.above, seen, max(turned, seen), found.below, found.again})
