"""The slider's HTML: whole without scripts, nothing from elsewhere, small, the same every time."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from toys import tiny_problem

import gfm
from gfm.errors import InputError
from gfm.figures import training_slider as module
from gfm.figures.slider import Curve, SliderPanel, slider
from gfm.figures.training_slider import training_slider
from gfm.optimizers import GradientDescent

STEPS = np.arange(50)


def panel(**options) -> SliderPanel:
    y = np.where((STEPS > 20) & (STEPS < 24), np.nan, 1.0 + STEPS / 50)
    return SliderPanel("a < b", "step", "loss", [Curve(STEPS, y, "descent")], (0, 49), (1.0, 2.0), **options)


def made(**options) -> str:
    return slider([panel(**options)], STEPS, name="one", alt="the finding")


def test_it_is_well_formed_and_loads_nothing():
    text, found = made(), []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, dict(attrs)))
    parser.feed(text)
    assert "http" not in text and not any(k in a for _, a in found for k in ("src", "href"))
    assert any(t == "svg" and a["aria-label"] == "the finding" for t, a in found)
    assert any(t == "input" and a["type"] == "range" and a["aria-label"] for t, a in found)
    assert "a &lt; b" in text and "prefers-reduced-motion" in text


def test_without_scripts_every_known_point_is_drawn_and_the_controls_are_hidden():
    text = made()
    points = re.findall(r'class="run"[^>]* points="([^"]*)"', text)
    assert sum(len(p.split(" ")) for p in points) == 47 and len(points) == 2
    assert re.findall(r'data-from="(\d+)"', text) == ["0", "24"]
    assert re.search(r'class="gfm-slider-controls" hidden', text)


def test_points_lie_where_they_belong():
    first = re.search(r'points="([^ ]*)', made())[1]
    assert first == "58.0,256.0"  # lower left corner of the axes
    assert made() == made() and made(log=True) != made()


def test_bad_curves_are_refused():
    with pytest.raises(InputError, match="one point for each of 40 frames"):
        slider([panel()], STEPS[:40], name="one", alt="the finding")
    t = np.linspace(0, 1, 20_000)
    big = SliderPanel("", "", "", [Curve(t, t, "c")], (0, 1), (0, 1))
    with pytest.raises(InputError, match="fewer frames"):
        slider([big], np.arange(20_000), name="one", alt="the finding")


def test_the_slider_of_a_training_run(monkeypatch):
    problem = tiny_problem()
    run = gfm.central.run(problem, GradientDescent(lr=0.3), 30)
    text = training_slider(run, "steps-of-a-run", "the finding")
    assert text.count('class="run"') == 6  # three processes, loss and sharpness
    assert 'max="30"' in text and "predicted average" in text
    monkeypatch.setattr(module, "_FRAMES", 10)
    assert 'max="6"' in training_slider(run, "fewer-frames", "the finding")  # every fifth step: an odd number
