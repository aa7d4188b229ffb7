"""The files of all figures speak one language: one width, three sizes of type, the colours of the style."""

import itertools
import re

import matplotlib.colors
import pytest

from gfm.figures import style

_SIZES = (style.TEXT, style.SMALL, style.TITLE)


def svg_faults(svg: str) -> list[str]:
    """Widths, sizes of type and colours of a figure's file that are not of the style."""
    found = []
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1]) / 72
    if abs(width - style.WIDTH) > 0.03:
        found.append(f"{width:.2f} inches wide")
    sizes = {float(size) * 100 for size in re.findall(r"scale\((0\.\d+) -\1\)", svg)}
    found += [f"type of {size:g} points" for size in sizes if min(abs(size - s) for s in _SIZES) > 0.01]
    return found + [f"a line in {colour}" for colour in set(re.findall(r"stroke: (#[0-9a-f]{6})", svg)) - _colours()]


def _colours() -> set[str]:
    looks = itertools.chain(style.cycle(8), style.shades(5), *(style.scale(n) for n in range(1, 9)))
    own = [*style.COLOURS.values(), *(look["color"] for look in looks), "#000000", "#808080"]
    return {matplotlib.colors.to_hex(colour) for colour in own}


def test_the_files_of_figures_speak_the_language(smoke_outputs):
    files = sorted((smoke_outputs / "figures").glob("*/*.svg"))
    wrong = {f.name: found for f in files if (found := svg_faults(f.read_text(encoding="utf-8")))}
    assert len(files) > 60 and not wrong


@pytest.mark.parametrize("svg", [
    '<svg width="400pt">', '<svg width="561.6pt"><g transform="scale(0.07 -0.07)">',
    '<svg width="561.6pt"><path style="stroke: #ff0000">',
])
def test_another_language_is_noticed(svg):
    assert len(svg_faults(svg)) == 1
