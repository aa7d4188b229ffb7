"""Filters of the gradients: thresholds against growth, gains against steps, delays, corrections, what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import gfm
from gfm.errors import InputError
from gfm.optimizers import Adam, Filter, GradientDescent, Group, HeavyBall, Muon, Nesterov, ParameterGroups, check_rule

ONE = torch.ones(1, dtype=torch.float64)


@dataclass(frozen=True)
class NAdam(Adam):
    @property
    def filter(self):
        b = self.beta1
        return Filter((1 - b * b, b * b - b), (1, -b), corrected=self.bias_correction)


class LastThree(GradientDescent):
    filter = Filter((0.7, 0.2, 0.1))


@dataclass(frozen=True)
class AdamW(Adam):
    weight_decay: float = 1.0

    def decay(self, state):
        return self.lr_at(state.t) * self.weight_decay


#: Each rule with its threshold and delay, in closed form, and its step under a gradient that stays 1.
RULES = {
    "descent": (GradientDescent(lr=0.1), 2.0, 0.0, 0.1),
    "heavy ball .3": (HeavyBall(lr=0.1, momentum=0.3), 2 * 1.3 / 0.7, 3 / 7, 0.1 / 0.7),
    "heavy ball .9": (HeavyBall(lr=0.1, momentum=0.9), 38.0, 9.0, 1.0),
    "nesterov": (Nesterov(lr=0.1, momentum=0.9), 38.0 / 2.8, 8.1, 1.0),
    "adam": (Adam(lr=0.1, beta1=0.9, eps=0.0), 38.0, 9.0, 0.1),
    "nadam": (NAdam(lr=0.1, beta1=0.9, eps=0.0), 38.0 / 2.8, 8.1, 0.1),
    "last three": (LastThree(lr=0.1), 2 / 0.6, 0.4, 0.1),
}


def held(rule, state):
    """The state with a second moment of 1, which no gradient moves; without bias correction."""
    return state if state.nu is None else type(state)(state.t + 1e6, ONE, state.momentum)


def growth(rule, theta, steps=400):
    """The factor by which a weight grows in a step, at a fixed P and an eigenvalue theta of P^-1 H."""
    state, w, sizes = held(rule, rule.init(ONE)), ONE, []
    P = rule.preconditioner(held(rule, rule.update(state, ONE)))
    for _ in range(steps):
        g = theta * P * w
        state = held(rule, rule.update(state, g))
        w = rule.step(w, state, g)
        sizes.append(abs(float(w)) + 1e-300)
    return (sizes[-1] / sizes[steps // 2]) ** (1 / (steps - 1 - steps // 2))


@pytest.mark.parametrize("name", RULES)
def test_thresholds_and_delays_are_those_of_the_closed_forms(name):
    rule, threshold, delay, _ = RULES[name]
    assert rule.threshold == pytest.approx(threshold) and rule.filter.delay == pytest.approx(delay)
    check_rule(rule, torch.zeros(3))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_oscillates_beyond_its_threshold(name):
    """By the rule's own steps, on a quadratic just below and above."""
    rule, threshold = RULES[name][:2]
    below, above = (growth(rule, share * threshold) for share in (0.99, 1.01))
    assert below < 0.9999 < 1.0001 < above


@pytest.mark.parametrize("b", [0.3, 0.9])
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_momentum_grows_as_the_roots_of_its_polynomial_say(b, share):
    """z^2 - (1 + b - lr lambda) z + b, with lr lambda = (1 - b) theta."""
    rule = HeavyBall(lr=0.1, momentum=b)
    theta = share * rule.threshold
    expected = np.abs(np.roots([1.0, -(1 + b - (1 - b) * theta), b])).max()
    assert growth(rule, theta, 2000) == pytest.approx(expected, rel=2e-3 if share < 1 else 1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_constant_gradient_gives_the_drift_of_the_flow(name):
    rule, *_, expected = RULES[name]
    state = held(rule, rule.init(ONE))
    for _ in range(300):
        state = held(rule, rule.update(state, ONE))
    step = -(rule.step(0 * ONE, state, ONE)).item()
    assert step == pytest.approx(expected) == (1 / rule.preconditioner(state) * ONE).item()
    assert -rule.drift(0 * ONE, state, ONE).item() == pytest.approx(expected)


@pytest.mark.parametrize("rule", [RULES["nadam"][0], RULES["adam"][0], Muon(lr=0.1)], ids=lambda r: type(r).__name__)
def test_corrected_momentum_answers_a_constant_gradient_with_it_from_the_start(rule):
    filter, kept = rule.filter, rule.filter.init(ONE)
    for t in range(1, 6):
        kept = filter.update(kept, ONE)
        found = filter.output(kept, ONE, t).item()
        assert (found == pytest.approx(1.0)) == filter.corrected
    share, slope = filter.started(3.0)
    ahead, behind = filter.started(3.001)[0], filter.started(2.999)[0]
    assert slope == pytest.approx((ahead - behind) / 0.002, rel=1e-5) and (share < 1) == filter.corrected


def test_nesterovs_average_is_that_of_torch_once_the_corrections_are_over():
    rule, q = NAdam(lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8), ONE.clone().requires_grad_()
    torchs = torch.optim.NAdam([q], lr=0.1, betas=(0.9, 0.99), momentum_decay=1e9)
    w, state = ONE, rule.init(ONE)
    moved = []
    for t in range(400):
        g = torch.cos(0.3 * t * ONE)
        before, q.grad = q.detach().clone(), g
        torchs.step()
        w, state = rule.advance(before, state, g)
        moved.append((w - q.detach()).abs().item())
    assert moved[0] > 1e-3 and max(moved[-100:]) < 1e-12


@pytest.mark.parametrize(("theta", "peak", "passed"), [(5.0, 2, 1.3), (15.0, 5, 4.8), (30.0, 16, 14.8)])
def test_adam_oscillates_early_as_its_edge_says(theta, peak, passed):
    """With bias correction the edge is 38 (1 - beta1^t): a weight grows until that passes its eigenvalue."""
    rule, w = Adam(lr=0.1, beta1=0.9, eps=0.0), ONE
    state, sizes = rule.init(ONE), []
    for _ in range(40):
        g = theta / 0.1 * w
        state = rule.update(state, g)
        state = type(state)(state.t, ONE * (1 - rule.beta2**state.t), state.momentum)  # P stays 1 / lr
        w = rule.step(w, state, g)
        sizes.append(abs(float(w)))
        edge = rule.threshold * float(rule.edge(state) / rule.preconditioner(state))
        assert edge == pytest.approx(38 * (1 - 0.9**state.t))
        if state.t == int(passed):
            assert edge < theta
        if state.t == int(passed) + 1:
            assert edge > theta
    assert abs(int(np.argmax(sizes)) + 1 - peak) <= 1


def test_the_edge_rises_as_the_correction_ends_also_with_decay():
    rule = ParameterGroups(AdamW(lr=0.1, beta1=0.9, beta2=0.9), {"*": Group(2.0, 0.5)})
    problem = gfm.Problem(torch.nn.Linear(3, 1).double(), torch.ones(4, 3).double(), torch.zeros(4, 1).double())
    rule = rule.with_layout(problem.flat)
    assert rule.decay(rule.init(problem.w0)) == pytest.approx(0.1 * 2.0 * (0.5 + 1.0))
    state = rule.update(rule.init(problem.w0), problem.gradient(problem.w0))
    state = rule.update(state, problem.gradient(problem.w0))
    rates, h = rule.rates(state, 0.5 * problem.gradient(problem.w0)), 1e-5
    ahead, behind = (rule.edge(state.moved(rates, dt)) for dt in (h, -h))
    assert torch.allclose(rule.edge_rate(state, rates), (ahead - behind) / (2 * h), rtol=1e-5)
    check_rule(rule, problem.w0)


def test_a_filter_that_rotates_first_is_refused():
    Filter((1.0,), (1.0, -0.9)).check(0.5)
    with pytest.raises(InputError, match="period two"):
        Filter((0.4, 0.0, 0.6)).check()  # the older gradient decides, and the rule rotates
    # A pair with product eta h x and the root -1 at eta h = 2 / (1 - x) leave the circle together at x = 1/3.
    Filter((1.0, 0.33)).check()
    with pytest.raises(InputError, match="period two"):
        Filter((1.0, 0.34)).check()


@pytest.mark.parametrize(("options", "words"), [
    ({"n": ()}, "finite coefficients"), ({"d": (0.0, 1.0)}, "finite coefficients"),
    ({"n": (float("nan"),)}, "finite coefficients"), ({"n": (1.0, -1.0)}, "must pass"),
    ({"d": (1.0, -1.0)}, "must pass"),
    ({"n": (-1.0,)}, "must pass"), ({"n": (0.5, 0.5)}, "must pass"),
    ({"n": (0.5, 0.3), "corrected": True}, "correction"), ({"d": (1.0, 0.5), "corrected": True}, "correction"),
    ({"d": (1.0, -1.2, 0.4), "corrected": True}, "correction"),
])
def test_filters_that_no_rule_could_have_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        Filter(**options)


def test_a_pole_outside_the_circle_is_refused():
    with pytest.raises(InputError, match="poles inside the unit circle"):
        Filter((1.0,), (1.0, 0.0, 1.5)).check()
