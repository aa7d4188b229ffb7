"""One style for all figures: colours and lines that readers can distinguish despite colour blindness or grey print.

The palette is Okabe and Ito's, ordered so that neighbours differ in lightness as well as in hue. Every role
also has its own line style, so that no figure depends on colour alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "PROCESSES", "ROLES", "cycle", "forecasters", "image", "labels_around", "line", "use"]

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#B45A8D",
    "sky": "#56B4E9",
    "black": "#1A1A1A",
    "grey": "#7A7A7A",
}

# What a line stands for -> how it is drawn, the same in every figure of the book.
ROLES: dict[str, dict[str, Any]] = {
    "discrete": {"color": COLOURS["blue"], "linestyle": "-", "linewidth": 1.0},
    "midpoint": {"color": COLOURS["sky"], "linestyle": (0, (1, 1)), "linewidth": 1.2},
    "stable": {"color": COLOURS["vermilion"], "linestyle": (0, (6, 2)), "linewidth": 1.6},
    "central": {"color": COLOURS["black"], "linestyle": "-", "linewidth": 1.8},
    "predicted": {"color": COLOURS["black"], "linestyle": (0, (3, 1.5)), "linewidth": 1.6},
    "smoothed": {"color": COLOURS["orange"], "linestyle": "-", "linewidth": 2.2},
    "threshold": {"color": COLOURS["grey"], "linestyle": (0, (2, 2)), "linewidth": 1.0},
    "gfm": {"color": COLOURS["green"], "linestyle": "-", "linewidth": 2.2, "marker": "o"},
    "truth": {"color": COLOURS["black"], "linestyle": "-", "linewidth": 1.8},
}

#: The names of a run's processes in figures of gradient descent.
PROCESSES = {"discrete": "gradient descent", "stable": "gradient flow", "central": "central flow"}

_ORDER = [COLOURS[name] for name in ("blue", "vermilion", "green", "black", "orange", "purple", "sky", "grey")]
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1)), (0, (9, 3)),
           (0, (4, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_RC: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
}


@contextmanager
def use() -> Iterator[None]:
    """Context manager in which figures are drawn: ``with style.use(): fig, ax = plt.subplots()``."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context({**_RC, "axes.prop_cycle": cycler(color=_ORDER, linestyle=_DASHES)}):
        yield


def labels_around(figure: Figure, axes: np.ndarray, xlabel: str, ylabel: str, **legend: Any) -> None:
    """Label a grid of axes below and on the left only, and put the legend of the first beside or below them."""
    for ax in axes[-1]:
        ax.set_xlabel(xlabel)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), **legend)


def line(role: str, **changes: Any) -> dict[str, Any]:
    """Keyword arguments of ``ax.plot`` for a role in :data:`ROLES`, with changes."""
    return {**ROLES[role], **changes}


def forecasters(names: Iterable[str], markers: bool = False, **gfm: Any) -> dict[str, dict[str, Any]]:
    """Keyword arguments for the line of each forecaster by name, the learned flow (with changes ``gfm``) at the end."""
    others = [name for name in names if name != "gfm"]
    looks = {name: {**look, "linewidth": 1.2} for name, look in zip(others, cycle(len(others), markers), strict=True)}
    return {**looks, "gfm": line("gfm", **gfm)}


def cycle(number: int, markers: bool = False) -> list[dict[str, Any]]:
    """Keyword arguments for ``number`` lines that differ in colour and dashes (and markers, if asked for)."""
    marked = [{"marker": _MARKERS[i % 8]} if markers else {} for i in range(number)]
    return [{"color": _ORDER[i % 8], "linestyle": _DASHES[(i + i // 8) % 8], **marked[i]} for i in range(number)]


def image(figure: Figure, kind: str, **options: Any) -> bytes:
    """The figure as a file ("svg" or "png"), the same each time."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": "gfm"}):  # ids in the SVG are else drawn anew each time
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()
