"""Where filters lose stability, against closed forms and roots, and how steadily they hold the edge."""

import math

import numpy as np
import pytest

from gfm.errors import InputError
from gfm.optimizers import Filter
from gfm.optimizers.stability import edge_of_stability, steady_excess


@pytest.mark.parametrize("b", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_edges_at_minus_one_are_those_of_the_closed_forms(b, decay):
    share = (2 - decay) / 2
    for n, d, level in (((1.0,), (1.0, -b), 2 * (1 + b)),
                        ((1 + b, -b), (1.0, -b), 2 * (1 + b) / (1 + 2 * b)),
                        ((1 - b,), (1.0, -b), 2 * (1 + b) / (1 - b))):
        edge = edge_of_stability(n, d, decay)
        assert edge.level == pytest.approx(share * level) and edge.root == -1 and edge.period == 2
        assert edge_of_stability(n, d).level == pytest.approx(Filter(n, d).threshold / Filter(n, d).gain)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_a_mean_of_the_last_gradients_turns(k):
    edge = edge_of_stability((1 / k,) * k)
    assert edge.level == pytest.approx(k * (1 - math.cos(math.pi / k))) and edge.period == pytest.approx(2 * k)
    assert edge_of_stability((1 / k,) * k, (1.0,), 0.1).level > 1.0001 * edge.level or k == 2  # decay helps there


@pytest.mark.parametrize("late", [1, 2, 3])
def test_late_gradients_turn(late):
    edge = edge_of_stability([0.0] * late + [1.0, 0.0])
    assert edge.level == pytest.approx(2 * math.sin(math.pi / (4 * late + 2)))
    assert edge.period == pytest.approx(4 * late + 2)


def test_the_edge_is_the_first_of_several_crossings():
    """(0.5, 0.3, 0.2) would leave at -1 at 5, but a pair of roots is earlier; roots are inside below, outside above."""
    n, decay = np.array([0.5, 0.3, 0.2]), 0.0
    edge = edge_of_stability(n)
    assert edge.level == pytest.approx(10 / 3) and edge.period == pytest.approx(4) and Filter(tuple(n)).threshold == 5
    for share, inside in ((0.999, True), (1.001, False)):
        roots = np.roots(np.polyadd([1.0, decay - 1.0, 0.0, 0.0], share * edge.level * n))
        assert (abs(roots).max() < 1) == inside


@pytest.mark.parametrize("b", [0.0, 0.3, 0.5, 0.8, 0.9])
def test_a_heavy_ball_holds_the_edge_up_to_the_closed_form(b):
    expected = 1 / (4 * ((1 + b) / (1 - b)) ** 2 - 1)
    assert steady_excess((1.0,), (1.0, -b)) == pytest.approx(expected)
    assert steady_excess((3 - 3 * b,), (1.0, -b)) == pytest.approx(expected)  # however large its steps


def test_gradient_descents_steady_excess_is_that_of_its_map():
    """Of the Jacobian of two steps of x -> x - S(y) x, y -> y - g (x^2 / 2 - e + y) at the orbit of period two."""

    def radius(e, g=1e-3):
        def step(w):
            s = 2 * np.exp(w[1])
            return np.array([w[0] - s * w[0], w[1] - g * (np.exp(w[1]) * w[0] ** 2 / 2 - e + w[1])])

        w, h = np.array([np.sqrt(2 * e), 0.0]), 1e-6
        columns = [(step(step(w + h * unit)) - step(step(w - h * unit))) / (2 * h) for unit in np.eye(2)]
        return abs(np.linalg.eigvals(np.array(columns).T)).max()

    assert steady_excess() == pytest.approx(1 / 3)
    assert radius(0.33) < 1 < radius(0.337)


def test_some_rules_always_hold_the_edge():
    assert steady_excess((2.0, -1.0)) == math.inf


@pytest.mark.parametrize(("options", "words"), [
    ({"n": ()}, "positive step"), ({"n": (float("nan"),)}, "finite"), ({"d": (0.0, 1.0)}, "finite"),
    ({"d": ()}, "finite"), ({"n": (-1.0,), "decay": 0.1}, "positive step"),
    ({"d": (1.0, -1.0)}, "inside"), ({"d": (1.0, 2.0)}, "inside"), ({"n": (1.0, -1.0)}, "positive step"),
    ({"decay": 2.0}, "decay"), ({"decay": -0.1}, "decay"),
])
def test_filters_that_no_rule_could_have_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        edge_of_stability(**options)
