"""The figure of roots in the complex plane."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["root_paths"]


def root_paths(paths: Mapping[str, np.ndarray], edges: Mapping[str, complex]) -> Figure:
    """Paths of roots in the upper half plane as the curvature rises, and where each crosses the unit circle.

    Args:
        paths: name -> (m,) complex.
        edges: name -> the root on the circle.
    """
    with style.use():
        figure, axes = style.subplots(height=4.6)
        turn = np.linspace(0, np.pi, 200)
        axes.fill_between(np.cos(turn), np.sin(turn), color=style.COLOURS["pale"], alpha=0.4, zorder=0)
        axes.plot(np.cos(turn), np.sin(turn), **style.line("threshold", label="unit circle"))
        for (name, path), look in zip(paths.items(), style.cycle(len(paths), markers=True), strict=True):
            marker = look.pop("marker")
            (line,) = axes.plot(path.real, path.imag, **look, label=name)
            inside = np.flatnonzero(path.real > -2.0)[-1]  # the last point within the picture
            axes.annotate("", (path[inside].real, path[inside].imag), (path[inside - 3].real, path[inside - 3].imag),
                          arrowprops={"arrowstyle": "->", "color": line.get_color()})
            axes.plot(edges[name].real, edges[name].imag, marker, color=line.get_color(), markersize=7)
        for edge in {complex(round(e.real, 6), round(e.imag, 6)) for e in edges.values()}:
            period = 2 * np.pi / np.angle(edge)
            side = "right" if edge.real < -0.1 else "left" if edge.real > 0.1 else "center"
            axes.annotate(f"every {period:.3g} steps", (edge.real, edge.imag), ha=side, fontsize=style.SMALL,
                          xytext=(1.14 * edge.real, 1.1 * edge.imag + 0.06))
        axes.set(aspect="equal", xlim=(-2.0, 1.6), ylim=(-0.06, 1.3), xlabel="real part of the root z",
                 ylabel="imaginary part", title="Stability ends where a root leaves the circle")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
