"""The atlas as one coloured table: how accurate the predicted loss is, by network and setting."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["overshoot", "survey"]


def survey(rows: Sequence[dict[str, Any]]) -> Figure:
    """Error of the predicted loss (%, the worst learning rate of a cell) for rows of ``experiments.survey``."""
    nets = list(dict.fromkeys(row["net"] for row in rows))
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    with style.use():
        figure, axes = style.subplots(height=0.42 * len(nets) + 1.5)
        values = np.full((len(nets), len(settings)), np.nan)
        for i, net in enumerate(nets):
            for j, setting in enumerate(settings):
                found = [r for r in rows if r["net"] == net and r["setting"] == setting]
                errors = [100 * r["error"] for r in found if not np.isnan(r["error"])]
                if errors:
                    values[i, j] = max(errors)
                text = _text(found, errors)
                dark = bool(errors) and max(errors) > 12
                axes.text(j, i, text, ha="center", va="center", fontsize=style.SMALL,
                          color=style.COLOURS["white" if dark else "black"])
        image = axes.imshow(values, cmap="cividis_r", vmin=0, vmax=20, aspect="auto")
        axes.set_xticks(range(len(settings)), [textwrap.fill(s, 84 // len(settings)) for s in settings])
        axes.set_yticks(range(len(nets)), nets)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.set_title("Error of the loss that the central flow predicts")
        figure.colorbar(image, ax=axes, label="error (%)", extend="max")
    return figure


def overshoot(rows: Sequence[dict[str, Any]]) -> Figure:
    """Error of the predicted loss against overshoot (both in %), for each judged cell, and the line of a square law."""
    known = [row for row in rows if 0 < row["error"] < np.inf and 2.0 < row["peak"] < np.inf]
    names = list(dict.fromkeys(map(_optimizer, rows)))
    with style.use():
        figure, axes = style.subplots(height=3.4)
        for name, look in zip(names, style.cycle(len(names), markers=True), strict=True):
            own = [row for row in known if _optimizer(row) == name]
            axes.plot([_over(row) for row in own], [100 * row["error"] for row in own], label=name, markersize=7,
                      **{**look, "linestyle": "none"})
        if known:
            reach = np.array([min(map(_over, known)), max(map(_over, known))])
            through = np.median([100 * row["error"] / _over(row) ** 2 for row in known])
            axes.plot(reach, through * reach**2, label="square of the overshoot", **style.line("threshold"))
            style.log(axes.yaxis)
            style.log(axes.xaxis)
        else:
            axes.text(0.5, 0.5, "no cell can be judged", transform=axes.transAxes, ha="center")
        axes.set(xlabel="overshoot: largest sharpness beyond the edge (%)",
                 ylabel="error of the predicted loss (%)", title="Error and overshoot, cell by cell")
        if names:
            axes.legend()
    return figure


def _optimizer(row: dict[str, Any]) -> str:
    """The part of a setting's title before the comma."""
    return row["setting"].partition(",")[0]


def _over(row: dict[str, Any]) -> float:
    return 100 * (row["peak"] / 2 - 1)


def _text(found: Sequence[dict[str, Any]], errors: Sequence[float]) -> str:
    """The text of a table cell: its error, or why it has none."""
    if errors:
        return f"{max(errors):.2g} %" if np.isfinite(max(errors)) else "stopped"
    if not found:
        return "–"
    return "too short\nat the edge" if any(r["reached"] for r in found) else "below\nthe edge"
