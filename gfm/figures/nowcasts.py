"""Figures of forecasts during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["nowcasts"]


def nowcasts(
    ahead: Sequence[int], losses: Mapping[str, np.ndarray], saved: Mapping[str, np.ndarray], bold: str
) -> Figure:
    """Left: test loss some steps ahead; right: share of the training steps saved, seed by seed.

    Args:
        ahead: steps.
        losses: name -> (steps,) mean loss.
        saved: forecaster (and its variant) -> (seeds,) share in per cent.
        bold: names that begin with this are drawn as ours.
    """
    with style.use():
        fig, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.4))
        looks = style.cycle(len(losses), markers=True)
        for (name, values), look in zip(losses.items(), looks, strict=True):
            left.plot(ahead, values, label=name, markersize=5, **(style.line("gfm") if name == bold else look))
        left.set(xlabel="steps ahead", ylabel="test loss", yscale="log", title="At the weights forecast")
        left.legend()
        for row, (name, values) in enumerate(saved.items()):
            colour = style.COLOURS["green" if name.startswith(bold) else "blue"]
            right.plot(values, np.full(len(values), row), "|", color=colour, markersize=10, alpha=0.7)
            right.plot(np.nanmean(values), row, "D" if name.startswith(bold) else "o", color=colour, markersize=7)
        right.axvline(0, **style.line("threshold"))
        right.set_yticks(range(len(saved)), list(saved))
        right.set_ylim(len(saved) - 0.5, -0.5)
        right.set(xlabel="training steps saved (%)", title="Steps to the test loss")
    return fig
