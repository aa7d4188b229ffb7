"""No figure of the book depends on colour alone, and drawing leaves matplotlib's settings as they were."""

import itertools

import matplotlib as mpl
import matplotlib.colors
import pytest

from gfm.figures import style


def test_lines_of_a_cycle_differ_in_dash_or_marker_and_in_colour():
    for one, other in itertools.combinations(style.cycle(7), 2):
        assert one["color"] != other["color"] and one["linestyle"] != other["linestyle"]
    for one, other in itertools.combinations(style.cycle(16, markers=True), 2):
        assert (one["linestyle"], one["marker"]) != (other["linestyle"], other["marker"])


def test_roles_drawn_together_differ_in_grey_print():
    """Of the roles that share a figure, no two have nearly the same dash, width and lightness."""
    together = ("discrete", "stable", "central", "predicted", "smoothed", "threshold")
    for a, b in itertools.combinations(together, 2):
        one, other = style.line(a), style.line(b)
        dash = one["linestyle"] != other["linestyle"]
        width = abs(one["linewidth"] - other["linewidth"]) >= 0.4
        assert dash or width or abs(_grey(one["color"]) - _grey(other["color"])) > 0.2, (a, b)


def _grey(colour: str) -> float:
    red, green, blue = matplotlib.colors.to_rgb(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_style_is_a_context():
    before = dict(mpl.rcParams)
    with style.use():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


def test_changes_do_not_reach_the_table():
    assert style.line("central", linewidth=9)["linewidth"] == 9
    assert style.ROLES["central"]["linewidth"] != 9
    with pytest.raises(KeyError):
        style.line("nothing")
