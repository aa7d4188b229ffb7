"""One language for all figures: one width, three sizes of type, and colours that mean the same in every figure.

Every figure is as wide as the text column, so that type has one size on the page. Readers can tell the colours apart
despite colour blindness or grey print, and nothing depends on colour alone:

- what a curve stands for (a *role*, such as the optimizer or its central flow) has a colour of Okabe and Ito's palette
  and a line style of its own, which nothing else has;
- eigenvalues, from the largest on, are shades of the optimizer's blue;
- values of one parameter, such as learning rates, lie on a scale from dark to light (viridis);
- other things that are compared (networks, rules, rival forecasters) have the colours of Tol's muted palette, its
  greens last, since green is the learned flow.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "PROCESSES", "ROLES", "SMALL", "START", "TEXT", "TITLE", "WIDTH", "cycle", "forecasters", "image",
    "labels_around", "line", "log", "scale", "shades", "subplots", "use",
]

#: Width of every figure in inches: that of the text column, at 96 pixels per inch.
WIDTH = 7.8
#: Sizes of type, in points: labels, notes and legends, titles.
TEXT, SMALL, TITLE = 9.5, 8.5, 10.5

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#B45A8D",
    "sky": "#56B4E9",
    "black": "#1A1A1A",
    "grey": "#7A7A7A",
    "wine": "#8C2D3E",
    "pale": "#D9D9D9",
    "white": "#FFFFFF",
}

# What a line stands for -> how it is drawn, the same in every figure of the book.
ROLES: dict[str, dict[str, Any]] = {
    "discrete": {"color": COLOURS["blue"], "linestyle": "-", "linewidth": 1.0},
    "own": {"color": COLOURS["black"], "linestyle": (0, (1, 1.2)), "linewidth": 1.3},
    "midpoint": {"color": COLOURS["sky"], "linestyle": (0, (1, 1)), "linewidth": 1.2},
    "stable": {"color": COLOURS["vermilion"], "linestyle": (0, (6, 2)), "linewidth": 1.6},
    "central": {"color": COLOURS["black"], "linestyle": "-", "linewidth": 1.8},
    "predicted": {"color": COLOURS["black"], "linestyle": (0, (3, 1.5)), "linewidth": 1.6},
    "smoothed": {"color": COLOURS["orange"], "linestyle": "-", "linewidth": 2.2},
    "unstable": {"color": COLOURS["wine"], "linestyle": "-", "linewidth": 1.0},
    "threshold": {"color": COLOURS["grey"], "linestyle": (0, (2, 2)), "linewidth": 1.0},
    "gfm": {"color": COLOURS["green"], "linestyle": "-", "linewidth": 2.2, "marker": "o"},
    "truth": {"color": COLOURS["black"], "linestyle": "-", "linewidth": 1.8},
    "ablated": {"color": COLOURS["purple"], "linestyle": (0, (6, 2, 1.5, 2)), "linewidth": 1.6},
    "hold": {"color": COLOURS["grey"], "linestyle": (0, (1, 1.5)), "linewidth": 1.4, "marker": "s"},
}

#: Where a path begins, as a marker.
START: dict[str, Any] = {"marker": "D", "markersize": 6, "markerfacecolor": COLOURS["white"],
                         "markeredgecolor": COLOURS["black"], "linestyle": "none"}

#: The names of a run's processes in figures of gradient descent.
PROCESSES = {"discrete": "gradient descent", "stable": "gradient flow", "central": "central flow"}

_SHADES = ("#08306B", "#2171B5", "#4F9BCB", "#86B6D8", "#A9CBE3")
_MUTED = ("#332288", "#CC6677", "#999933", "#AA4499", "#6699CC", "#882255", "#5C5C5C", "#117733")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1)), (0, (9, 3)),
           (0, (4, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_RC: dict[Any, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.titlesize": TITLE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["pale"],
    "grid.linewidth": 0.6,
    "axes.formatter.use_mathtext": True,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "lines.linewidth": 1.5,
    "svg.fonttype": "path",
}


@contextmanager
def use() -> Iterator[None]:
    """Context manager in which figures are drawn: ``with style.use(): fig, ax = plt.subplots()``."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context({**_RC, "axes.prop_cycle": cycler(color=_MUTED, linestyle=_DASHES)}):
        yield


def subplots(rows: int = 1, columns: int = 1, height: float = 3.0, **options: Any) -> "tuple[Figure, Any]":
    """A figure of the book's width and its axes, as ``plt.subplots``; ``height`` is of a row, in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), **options)


def log(axis: "Axis") -> None:
    """Make a drawn axis logarithmic, with labels that are read at a glance: ``style.log(axes.yaxis)``."""
    import numpy as np
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    if not 0 < axis.get_minpos() < float("inf"):
        return  # nothing positive is drawn
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    axes.autoscale_view()
    low, high = sorted(axis.get_view_interval())
    axis.set_minor_formatter(NullFormatter())
    if high < 200 * low:
        many = (1.0, 2.0, 5.0) if high > 4 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
        axis.set_major_locator(LogLocator(subs=(1.0,) if low < 1e-3 and high > 15 * low else many))
        axis.set_major_formatter("{x:g}" if low >= 1e-3 else LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    else:
        axis.set_major_locator(LogLocator(numticks=6))


def labels_around(figure: "Figure", axes: "np.ndarray", xlabel: str, ylabel: str, **legend: Any) -> None:
    """Label a grid of axes (rows, columns) below and on the left, and put the first one's legend beside or below it."""
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
    others = [name for name in names if name not in ("gfm", "hold")]
    looks = dict(zip(others, cycle(len(others), markers), strict=True))
    looks = {name: {**look, "linewidth": 1.2} for name, look in looks.items()}
    if "hold" in names:
        still = line("hold")
        looks = {"hold": still if markers else {k: v for k, v in still.items() if k != "marker"}, **looks}
    return {**looks, "gfm": line("gfm", **gfm)}


def cycle(number: int, markers: bool = False) -> list[dict[str, Any]]:
    """Keyword arguments for ``number`` lines that differ in colour and dashes (and markers, if asked for)."""
    return _looks([_MUTED[i % 8] for i in range(number)], markers)


def shades(number: int) -> list[dict[str, Any]]:
    """Keyword arguments for the lines of ``number`` eigenvalues, from the largest on: blues from dark to light."""
    return _looks([_SHADES[min(i, len(_SHADES) - 1)] for i in range(number)], False)


def scale(number: int, markers: bool = False) -> list[dict[str, Any]]:
    """Keyword arguments for lines at ``number`` values of one parameter, in order: from dark to light."""
    import matplotlib as mpl
    from matplotlib.colors import to_hex

    places = [0.1 + 0.52 * i / max(number - 1, 1) for i in range(number)]
    return _looks([to_hex(mpl.colormaps["viridis"](place)) for place in places], markers)


def _looks(colours: Sequence[str], markers: bool) -> list[dict[str, Any]]:
    marked = [{"marker": _MARKERS[i % 8]} if markers else {} for i in range(len(colours))]
    return [{"color": colour, "linestyle": _DASHES[(i + i // 8) % 8], **marker}
            for i, (colour, marker) in enumerate(zip(colours, marked, strict=True))]


def image(figure: "Figure", kind: str, **options: Any) -> bytes:
    """The figure as a file ("svg" or "png"), the same each time."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": "gfm"}):  # without it the ids in the SVG would differ each time
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()
