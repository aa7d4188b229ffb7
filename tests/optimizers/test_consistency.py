"""Rules of one's own: they give their own flow, or are refused with what they must define."""

import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from test_rules import RULES
from toys import quadratic, tiny_problem

import gfm
from gfm.optimizers import (
    Adam,
    GradientDescent,
    HeavyBall,
    Memory,
    Nesterov,
    Optimizer,
    RMSProp,
    ScalarRMSProp,
    State,
    check_rule,
    schedules,
)

run = gfm.central.run
FLOWS, ALONE = ("discrete", "central"), ("discrete",)


class PlainRule(Optimizer):
    """The least that a rule needs: neither a dataclass nor anything but P."""

    def __init__(self, lr=0.1):
        self.lr = lr

    def preconditioner(self, state):
        return 1.0 / self.lr_at(state.t)


@dataclass(frozen=True)
class Written(Nesterov):
    """With its steps written out, and declared."""

    def direction(self, state, g):
        return (1 - self.momentum) * (g + self.momentum * state.momentum)


@dataclass(frozen=True)
class Aged(State):
    age: torch.Tensor | None = None


class Ageing(PlainRule):
    """P rises with a part of the state that only this rule has, and that a momentum accompanies."""

    def init(self, w):
        return Aged(age=torch.zeros_like(w))

    def update(self, state, g):
        return replace(state, t=state.t + 1, age=state.age + 0.5)

    def preconditioner(self, state):
        return (1 + 0.1 * state.age) / self.lr

    def rates(self, state, g):
        return Aged(1.0, age=torch.full_like(state.age, 0.5))

    def preconditioner_rate(self, state, rates):
        return 0.1 * rates.age / self.lr


@dataclass(frozen=True)
class RootEps(RMSProp):
    """The epsilon inside the root, with the derivatives that belong to it."""

    def preconditioner(self, state):
        return (state.nu + self.eps).sqrt() / self.lr

    def memory(self, state):
        return Memory(super().memory(state).rate, 0.5 / (state.nu + self.eps).sqrt() / self.lr)

    def preconditioner_rate(self, state, rates):
        return self.memory(state).sensitivity * rates.nu


@pytest.mark.parametrize("rule", [
    *RULES, PlainRule(), Written(lr=0.1, momentum=0.7), Ageing(), RootEps(lr=0.01, beta2=0.9, eps=1e-3),
    HeavyBall(lr=0.1, momentum=0.999), HeavyBall(lr=0.1, momentum=0.9999), Adam(lr=0.01, beta1=0.99),
    Adam(lr=0.01, bias_correction=False), RMSProp(lr=2e-5, beta2=0.01), GradientDescent(lr=1e-9),
    ScalarRMSProp(lr=1e-8, beta2=0.999999, bias_correction=True), Adam(lr=schedules.WarmUp(0.1, 5)),
    GradientDescent(lr=lambda t: 0.1 if t < 1 else 0.01), RMSProp(lr=schedules.Cosine(0.1, 2), eps=1.0),
], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rules_that_fit_together_pass(rule, dtype):
    check_rule(rule, tiny_problem().w0.to(dtype))


@pytest.mark.no_cover
def test_a_rule_with_a_state_of_its_own_has_its_own_flow():
    """On a quadratic: dw/dt = -lr / (1 + 0.1 age) h w with age 0.5 (1 + t) has a closed solution."""
    problem = quadratic([1.0, 3.0], [1.0, -2.0])
    settings = gfm.central.Settings(substeps=200)
    found = run(problem, Ageing(lr=0.1), 10, processes=("stable", "central"), settings=settings, keep_weights=10)
    power = 0.1 / 0.05 * np.log((1 + 0.05 * 11) / 1.05)
    for name in ("stable", "central"):
        end = found[name].weights[-1]
        assert end == pytest.approx([np.exp(-power), -2 * np.exp(-3 * power)], rel=3e-3)


def test_a_state_of_its_own_survives_a_checkpoint(tmp_path):
    path, options = tmp_path / "run.checkpoint", {"processes": ("discrete", "stable", "central")}

    def keep(done, _):
        if done == 4:
            shutil.copy(path, tmp_path / "kept")

    whole = run(tiny_problem(), Ageing(lr=0.1), 6, checkpoint=path, checkpoint_every=1, progress=keep, **options)
    shutil.copy(tmp_path / "kept", path)
    rest = run(tiny_problem(), Ageing(lr=0.1), 6, checkpoint=path, **options)
    for name in options["processes"]:
        assert np.array_equal(whole[name].loss, rest[name].loss)


def test_a_rule_that_holds_a_tensor_is_described(tmp_path):
    class Masked(PlainRule):
        def __init__(self, mask):
            super().__init__()
            self.mask = mask

        def direction(self, state, g):
            return self.mask * g

    found = run(tiny_problem(), Masked(torch.ones(433, dtype=torch.float64)), 2)
    found.save(tmp_path / "run.npz")
    assert gfm.central.Run.load(tmp_path / "run.npz").settings["optimizer"] == "Masked"


def test_large_rules_are_tried_on_few_weights_or_on_all():
    class Counting(PlainRule):
        seen: set[int] = set()

        def update(self, state, g):
            self.seen.add(len(g))
            return super().update(state, g)

    class Large(PlainRule):
        def direction(self, state, g):
            return torch.ones(20_000, dtype=g.dtype) * g

    check_rule(Counting(), torch.zeros(20_000))
    assert Counting.seen == {10_000}
    check_rule(Large(), torch.zeros(20_000))
