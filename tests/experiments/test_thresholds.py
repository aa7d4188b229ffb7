"""Thresholds of rules with momentum, from roots and from torch."""

import pytest

from gfm.experiments.both.thresholds import converges, largest_root, torch_agrees
from gfm.optimizers import Filter


@pytest.mark.parametrize("b", [0.0, 0.3, 0.9])
def test_a_heavy_balls_roots(b):
    """Of z^2 - (1 + b - x) z + b, with x = (1 - b) theta."""
    q = Filter((1.0,), (1.0, -b))
    assert largest_root(q, 2 * (1 + b) / (1 - b)) == pytest.approx(1.0)
    assert largest_root(q, 0.5 * q.threshold) == pytest.approx(max(b**0.5, 1e-12), abs=1e-9)
    assert largest_root(q, 1.01 * q.threshold) > 1.001


def test_torch_turns_at_the_threshold_and_the_share_tells_it(monkeypatch):
    assert converges(1.99, 0.0, False) and not converges(2.01, 0.0, False)
    assert torch_agrees(0.01, (0.3, 0.9)) == 1.0
    right = Filter.threshold.fget
    monkeypatch.setattr(Filter, "threshold", property(lambda q: 1.05 * right(q)))
    assert torch_agrees(0.01, (0.3, 0.9)) == 0.5  # both sides of a wrong threshold are unstable
