"""The optimizers inside the flow: one Euler step of a rule is one step of torch's optimizer."""

import numpy as np
import pytest
import torch

from gfm.errors import InputError
from gfm.matching import UpdateRule
from gfm.matching.rules import RULES, rule_of

LR = 0.01
OPTIMIZERS = {  # name -> torch's class, its options, its names of the averages
    "SGD": (torch.optim.SGD, {}, ()),
    "momentum": (torch.optim.SGD, {"momentum": 0.8}, ("momentum_buffer",)),
    "RMSprop": (torch.optim.RMSprop, {"alpha": 0.95, "eps": 1e-12}, ("square_avg",)),
    "Adam": (torch.optim.Adam, {"betas": (0.8, 0.99), "eps": 1e-12}, ("exp_avg", "exp_avg_sq")),
    "AdamW": (torch.optim.AdamW, {"betas": (0.8, 0.99), "eps": 1e-12, "weight_decay": 0.3}, ("exp_avg", "exp_avg_sq")),
}


def trained(name, gradient, steps):
    """Weights, averages and gradients of every step of torch's optimizer, each (states, 6)."""
    kind, options, names = OPTIMIZERS[name]
    w = torch.linspace(-2, 2, 6, dtype=torch.float64).requires_grad_()
    optimizer = kind([w], lr=LR, **options)
    weights, averages, gradients = [w.detach().clone()], [[torch.zeros(6, dtype=torch.float64) for _ in names]], []
    for step in range(steps):
        w.grad = gradient(w.detach(), step)
        gradients.append(w.grad.clone())
        optimizer.step()
        weights.append(w.detach().clone())
        averages.append([optimizer.state[w][one].clone() for one in names])
    return weights, averages, gradients


def noisy(w, step):
    generator = torch.Generator().manual_seed(step)
    return 3 * w + 1 + torch.randn(6, dtype=torch.float64, generator=generator)


def euler(name, w, averages, g, step, count):
    """Weights and averages after ``count`` steps by one Euler step of the rule."""
    rule = rule_of({"optimizer": name, "options": OPTIMIZERS[name][1]})
    d, slopes = rule.velocity(tuple(averages), g, g**2 if rule.squares else None, step, count)
    moved = w - count * LR * (d + rule.decay * w)
    return moved, [a + count * slope for a, slope in zip(averages, slopes, strict=True)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_euler_step_is_a_step_of_torch(name):
    """At every step from the first, where averages that start from zero are corrected most."""
    weights, averages, gradients = trained(name, noisy, 30)
    for step in range(30):
        w, after = euler(name, weights[step], averages[step], gradients[step], step, 1)
        torch.testing.assert_close(w, weights[step + 1], rtol=1e-6, atol=0)
        torch.testing.assert_close(w - weights[step], weights[step + 1] - weights[step], rtol=1e-6, atol=1e-14)
        for mine, theirs in zip(after, averages[step + 1], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("start", [0, 7])
def test_four_steps_at_once_under_one_gradient(name, start):
    """Exact for the averages of any rule and the weights of plain and heavy balls; close for normalised steps."""
    held = noisy(torch.ones(6, dtype=torch.float64), 0)
    weights, averages, gradients = trained(name, lambda w, k: noisy(w, k) if k < start else held, start + 4)
    w, after = euler(name, weights[start], averages[start], held, start, 4)
    for mine, theirs in zip(after, averages[start + 4], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-15)
    moved = weights[start + 4] - weights[start]
    if name in ("SGD", "momentum"):
        torch.testing.assert_close(w - weights[start], moved, rtol=1e-9, atol=1e-15)
    elif name != "RMSprop" or start:  # without a correction its first steps shrink as the average fills
        assert (w - weights[start] - moved).abs().max() < 0.1 * moved.abs().max()


@pytest.mark.parametrize("start", [0, 7, 40])
def test_adams_first_average_over_four_steps(start):
    """The mean of its values after each of the steps, corrected at their middle."""
    rule = RULES["Adam"](beta1=0.8, beta2=0.0)  # the root is that of q = 1 alone
    m, g = torch.tensor([0.3, -2.0], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)
    d, _ = rule.velocity((m, m * 0), g, g * 0 + 1, start, 4)
    means, now = [], m
    for _ in range(4):
        now = 0.8 * now + 0.2 * g
        means.append(now)
    torch.testing.assert_close(d * (1 - 0.8 ** (start + 2.5)), torch.stack(means).mean(dim=0), rtol=1e-12, atol=0)


def test_units_of_the_gradient():
    """The root of the corrected second moment; a rule without one has none."""
    _, averages, gradients = trained("Adam", lambda w, k: torch.full((6,), -2.5, dtype=torch.float64), 3)
    adam = rule_of({"optimizer": "Adam", "options": OPTIMIZERS["Adam"][1]})
    torch.testing.assert_close(adam.unit(tuple(averages[3]), 3), gradients[0].abs())
    second = torch.tensor([4.0, 9.0])
    torch.testing.assert_close(rule_of({"optimizer": "RMSprop"}).unit((second,), 3), torch.tensor([2.0, 3.0]))
    for name in ("SGD", "momentum"):
        rule = rule_of({"optimizer": name})
        assert rule.unit(tuple(second for _ in rule.averages), 3) is None


def test_a_lasting_gradient_leads_to_the_direction_that_slow_says():
    for name in ("SGD", "momentum"):
        rule = rule_of({"optimizer": name, "options": OPTIMIZERS[name][1]})
        averages, g = [torch.zeros(1, dtype=torch.float64) for _ in rule.averages], torch.ones(1, dtype=torch.float64)
        for step in range(200):
            d, slopes = rule.velocity(tuple(averages), g, None, step, 1)
            averages = [a + slope for a, slope in zip(averages, slopes, strict=True)]
        assert (rule.slow * d).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("optimizer", "options", "said"),
    [
        ("Lion", {}, "Lion"),
        (None, {}, "None"),
        ("SGD", {"momentum": 0.9}, "momentum"),
        ("momentum", {"momentum": 0.9, "nesterov": True}, "Nesterov"),
        ("momentum", {"momentum": 0.9, "dampening": 0.1}, "dampening"),
        ("RMSprop", {"centered": True}, "centring"),
        ("RMSprop", {"momentum": 0.9}, "momentum"),
        ("Adam", {"amsgrad": True}, "amsgrad"),
        ("AdamW", {"amsgrad": True}, "amsgrad"),
    ],
)
def test_what_a_rule_does_not_know_is_refused_in_one_sentence(optimizer, options, said):
    with pytest.raises(InputError, match=said) as caught:
        rule_of({"optimizer": optimizer, "options": options})
    message = str(caught.value)
    assert message.endswith(".") and message.count(". ") == 0


def test_torchs_defaults_are_the_rules():
    """What is not among the options is as in torch."""
    w = [torch.zeros(1, requires_grad=True)]
    adam, adamw = (kind(w).param_groups[0] for kind in (torch.optim.Adam, torch.optim.AdamW))
    rule, decayed = rule_of({"optimizer": "Adam"}), rule_of({"optimizer": "AdamW"})
    assert (rule.beta1, rule.beta2) == adam["betas"] and rule.decay == 0
    assert (decayed.beta1, decayed.beta2, decayed.decay) == (*adamw["betas"], adamw["weight_decay"])
    assert rule_of({"optimizer": "RMSprop"}).alpha == torch.optim.RMSprop(w).param_groups[0]["alpha"]


def test_a_new_rule_needs_its_velocity_only():
    rule = UpdateRule()
    d, slopes = rule.velocity((), torch.ones(3), None, 0, 1)
    assert d.equal(torch.ones(3)) and slopes == () and rule.unit((), 0) is None and np.isclose(rule.slow, 1)
