"""The picture of the book's first page: the sharpness along one run and its two flows, labelled at the lines."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from gfm.figures import style

__all__ = ["sharpness"]


def sharpness(data: Mapping[str, Any]) -> dict[str, bytes]:
    """Sharpness over steps of gradient descent, gradient flow and the central flow, as files: ``svg`` and ``png``.

    Args:
        data: what the figure ``gd-central-flow`` was drawn from.
    """
    step = np.asarray(data["step"])
    run, stable, central = (np.asarray(data[f"sharpness of {name}"], float)
                            for name in ("gradient descent", "the stable flow", "the central flow"))
    with style.use():
        figure, axes = style.subplots(height=3.2)
        for process, y in (("discrete", run), ("stable", stable), ("central", central)):
            axes.plot(step, y, **style.line(process))
        for (x, y), words, process, where, align in (
            ((step[-1], stable[-1]), "gradient flow\ngoes on to sharper places", "stable", (8, -8), "left"),
            ((step[-1], central[-1]), "central flow\nstays at $2/\\eta$", "central", (8, -14), "left"),
            ((step[-1] * 0.6, central[-1]), "gradient descent swings around that", "discrete", (0, -50), "center"),
        ):
            axes.annotate(words, (x, y), where, textcoords="offset points", ha=align, va="center",
                          color=style.ROLES[process]["color"], annotation_clip=False)
        axes.set(xlabel="step of training", ylabel="sharpness", xlim=(step[0], step[-1]))
        axes.spines[["top", "right"]].set_visible(False)
        found = {kind: style.image(figure, kind) for kind in ("svg", "png")}
    plt.close(figure)
    return found
