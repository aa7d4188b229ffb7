"""Panels: a legend covers no curve."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gfm.figures.panels import Curve, Panel, draw

ROLES = ("discrete", "central", "stable", "smoothed", "predicted")


def waves(log):
    """Curves that leave no corner free."""
    x = np.linspace(0, 1, 200)
    curves = [Curve(x, 2.0 + np.sin(25 * x + n) if log else np.sin(25 * x + n), f"a curve, number {n}", role)
              for n, role in enumerate(ROLES)]
    return Panel("Waves", "y", curves, level=1.0, level_label="level", log=log)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_legend_covers_neither_curves_nor_levels(log, columns):
    figure = draw([waves(log)] * columns, columns=columns, height=4.0)
    figure.canvas.draw()
    axes = figure.axes[0]
    box = axes.get_legend().get_window_extent()
    assert box.width <= axes.bbox.width  # in narrow panels too
    for line in axes.lines:
        assert not line.get_transform().transform_path(line.get_path()).intersects_bbox(box, filled=False)
    assert axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1  # inside the panel
    plt.close(figure)


def test_axes_stay_as_they_are_where_the_legend_has_room():
    x = np.linspace(0, 1, 50)
    figure = draw([Panel("A line", "y", [Curve(x, x, "line")], ylim=(0.0, 1.0))], columns=1)
    assert figure.axes[0].get_ylim() == (0.0, 1.0)
    plt.close(figure)


def test_axes_that_cut_a_curve_off_stay_as_they_are():
    panel = waves(False)
    figure = draw([Panel(panel.title, "y", panel.curves, ylim=(-1.0, 0.5))], columns=1)
    assert figure.axes[0].get_ylim() == (-1.0, 0.5)
    plt.close(figure)
