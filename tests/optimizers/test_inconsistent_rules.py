"""Rules whose flow would be another rule's, or that no process could use."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from test_consistency import ALONE, FLOWS, Ageing, PlainRule, run
from toys import tiny_problem

import gfm
from gfm.errors import InputError
from gfm.optimizers import (
    Adam,
    Filter,
    GradientDescent,
    HeavyBall,
    Memory,
    Optimizer,
    RMSProp,
    State,
    check_rule,
)

# --- rules with flows that would be another rule's ----------------------------------------------


class SignStep(GradientDescent):
    def step(self, w, state, g):
        return w - self.lr * g.sign()


class Sign(GradientDescent):
    def direction(self, state, g):
        return g.sign()


class Clipped(GradientDescent):
    def direction(self, state, g):
        return g * (30.0 / g.norm()).clamp(max=1.0)


class ClippedStep(GradientDescent):
    def step(self, w, state, g):
        return super().step(w, state, g * (30.0 / g.norm()).clamp(max=1.0))


class Momentum(GradientDescent):
    def init(self, w):
        return State(momentum=torch.zeros_like(w))

    def update(self, state, g):
        return State(state.t + 1, momentum=0.9 * state.momentum + g)

    def direction(self, state, g):
        return state.momentum


class WithoutFilter(HeavyBall):
    def direction(self, state, g):
        return (1 - self.momentum) * (g + self.momentum * state.momentum)


class DecayInStep(Adam):
    def step(self, w, state, g):
        return super().step(w, state, g) - 0.01 * w


class AdaGrad(GradientDescent):
    """Its sums are in the state and in P, and the flow of gradient descent is inherited."""

    def init(self, w):
        return State(nu=torch.zeros_like(w))

    def update(self, state, g):
        return State(state.t + 1, nu=state.nu + g * g)

    def preconditioner(self, state):
        return state.nu.sqrt() / self.lr


class AdaGradRates(AdaGrad):
    def rates(self, state, g):
        return State(1.0, nu=g * g)


class AdaGradRate(AdaGradRates):
    def preconditioner_rate(self, state, rates):
        return 0.5 * rates.nu / state.nu.sqrt() / self.lr


class NoObserved(AdaGradRate):
    def memory(self, state):
        return Memory(1.0, 0.5 / state.nu.sqrt() / self.lr)


class WrongObserved(NoObserved):
    def observed(self, a, b):
        return a.abs() * b.abs()


class WrongRate(NoObserved):
    def observed(self, a, b):
        return a * b


class LargestSquare(RMSProp):
    def update(self, state, g):
        return State(state.t + 1, nu=torch.maximum(state.nu, g * g))


class OtherRoot(RMSProp):
    def preconditioner(self, state):
        return state.nu**0.25 / self.lr


class OtherRootRate(OtherRoot):
    def preconditioner_rate(self, state, rates):
        return 0.25 * rates.nu / state.nu**0.75 / self.lr


class NegativeP(GradientDescent):
    def preconditioner(self, state):
        return -1.0 / self.lr


class MomentumInP(HeavyBall):
    def preconditioner(self, state):
        return (1 + state.momentum**2) / self.lr


class OwnThreshold(GradientDescent):
    threshold = 3.0


class Alternating(GradientDescent):
    """A filter whose roots leave the unit circle elsewhere than at -1."""

    filter = Filter((1.0, 1.0, 0.9))


class NoFilter(GradientDescent):
    filter = None


LOST = {
    "sign in step": (SignStep(lr=0.1), r"SignStep.step moves the weights by 0.1,.*define preconditioner, filter"),
    "sign": (Sign(lr=0.1), r"Sign.direction is 1.0 .*declare the linear filter that it applies, or there is no flow"),
    "clipped": (Clipped(lr=0.1), r"Clipped.direction is .* under gradients of size .*declare the linear filter"),
    "clipped step": (ClippedStep(lr=0.1), r"ClippedStep.step moves.*under gradients of size"),
    "momentum": (Momentum(lr=0.1), r"Momentum.direction is .*declare the linear filter"),
    "no threshold": (WithoutFilter(lr=0.1), r"WithoutFilter.direction is .*declare the linear filter"),
    "decay": (DecayInStep(), r"DecayInStep.step moves.*or decay"),
    "adagrad": (AdaGrad(lr=0.1), r"AdaGrad.preconditioner depends on the state's nu.*define rates"),
    "adagrad, rates": (AdaGradRates(lr=0.1), r"preconditioner_rate is 0.0,.*define preconditioner_rate"),
    "adagrad, rate of P": (AdaGradRate(lr=0.1), r"with another gradient, but memory says.*define"),
    "adagrad, memory": (NoObserved(lr=0.1), r"NoObserved.observed fails: NotImplementedError"),
    "not a product": (WrongObserved(lr=0.1), r"observed must be a symmetric product"),
    "wrong rate": (WrongRate(lr=0.1), r"update raises nu by.*define memory and observed"),
    "largest": (LargestSquare(lr=0.1, beta2=0.9), r"LargestSquare.rates moves nu by.*define rates"),
    "other root": (OtherRoot(lr=0.1, beta2=0.9), r"define preconditioner_rate"),
    "other root, rate": (OtherRootRate(lr=0.1, beta2=0.9), r"memory.sensitivity.*define memory"),
    "negative": (NegativeP(lr=0.1), r"must be positive"),
    "momentum in P": (MomentumInP(lr=0.1), r"depends on the state's momentum, which rates leaves out"),
    "threshold": (OwnThreshold(lr=0.1), r"threshold is 3.0, but that of its filter is 2: declare the filter"),
    "roots": (Alternating(lr=0.1), r"does not first oscillate with period two"),
    "no filter": (NoFilter(lr=0.1), r"NoFilter.init fails"),
}


@pytest.mark.parametrize("name", LOST)
def test_a_flow_that_would_be_another_rules_is_refused(name):
    rule, words = LOST[name]
    problem = tiny_problem()
    for processes in (FLOWS, ("stable",)):
        with pytest.raises(InputError, match=words):
            run(problem, rule, 2, processes=processes)
    assert problem.costs.gradients == 0


@pytest.mark.parametrize("rule", [Sign(lr=0.1), Momentum(lr=0.1), AdaGrad(lr=1e-4), WithoutFilter(lr=0.1)],
                         ids=lambda rule: type(rule).__name__)
def test_the_discrete_process_needs_no_flow(rule, recwarn):
    found = run(tiny_problem(), rule, 3, processes=("discrete", "midpoint", "minibatch"))
    assert np.isfinite(found["discrete"].eigenvalues[:, 0]).all() and not found.notes and not len(recwarn)


@pytest.mark.parametrize("rule", [SignStep(lr=0.1), DecayInStep()], ids=lambda rule: type(rule).__name__)
def test_a_step_that_is_not_the_preconditioners_is_noted(rule):
    with pytest.warns(UserWarning, match=r"step moves the weights by .* not those of its steps"):
        found = run(tiny_problem(), rule, 3, processes=ALONE)
    assert len(found.notes) == 1


# --- rules that no process could use ------------------------------------------------------------


class InPlace(Momentum):
    def update(self, state, g):
        return State(state.t + 1, momentum=state.momentum.mul_(0.9).add_(g))


class InPlaceStep(GradientDescent):
    def step(self, w, state, g):
        return w.sub_(self.lr * g)


class Hidden(PlainRule):
    def __init__(self):
        super().__init__()
        self.m = 0.0

    def direction(self, state, g):
        self.m = 0.9 * self.m + g
        return self.m


class OwnAdvance(GradientDescent):
    def advance(self, w, state, g):
        state = self.update(state, g)
        return w - self.lr * g.sign(), state


class NoState(GradientDescent):
    def init(self, w):
        return {"t": 0}


class PlainState(State):
    def __init__(self, t=0.0, nu=None, momentum=None, own=None):
        super().__init__(t, nu, momentum)
        object.__setattr__(self, "own", own)


class OwnState(GradientDescent):
    def init(self, w):
        return PlainState(own=w)


@dataclass(frozen=True)
class Holding(State):
    held: object = None


class Unstorable(GradientDescent):
    def init(self, w):
        return Holding(held={"m": w})


class Forgetful(Ageing):
    def update(self, state, g):
        return State(state.t + 1)


class Timeless(GradientDescent):
    def update(self, state, g):
        return state


class OneNumber(GradientDescent):
    def step(self, w, state, g):
        return w.sum()


class Broken(GradientDescent):
    def update(self, state, g):
        raise KeyError("momentum")


class NoRate(Optimizer):
    def preconditioner(self, state):
        return 10.0


@pytest.mark.parametrize(("rule", "words"), [
    (InPlace(lr=0.1), "InPlace.update changes its arguments in place"),
    (InPlaceStep(lr=0.1), "InPlaceStep.step changes its arguments in place"),
    (Hidden(), "Hidden.step gives two results.*belongs in the state"),
    (OwnAdvance(lr=0.1), "OwnAdvance.advance moves the weights by 0.1,.*define update and step"),
    (NoState(lr=0.1), "NoState.init must return a gfm.optimizers.State, but it returns a dict"),
    (OwnState(lr=0.1), "PlainState must be a dataclass"), (Unstorable(lr=0.1), "field held must be.*but it is a dict"),
    (Forgetful(), "Forgetful.update returns a State, but init returns a Aged"),
    (Timeless(lr=0.1), "must add 1 to the state's t, but it adds 0"), (OneNumber(lr=0.1), "must return weights"),
    (Broken(lr=0.1), "Broken.update fails: KeyError: 'momentum'"), (NoRate(), "has no learning rate"),
], ids=lambda value: type(value).__name__)
def test_a_rule_that_no_process_could_use_is_refused(rule, words):
    for processes in (ALONE, FLOWS):
        with pytest.raises(InputError, match=words):
            run(tiny_problem(), rule, 2, processes=processes)


def test_random_steps_are_no_hidden_state():
    class Noisy(GradientDescent):
        def step(self, w, state, g):
            return super().step(w, state, g) + 1e-12 * torch.randn(len(w), dtype=w.dtype)

    before = torch.random.get_rng_state()
    run(tiny_problem(), Noisy(lr=0.1), 2, processes=ALONE)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_rule_of_the_books_page_passes_and_needs_its_second_method():
    page = (Path(gfm.__file__).parents[1] / "book" / "api-optimizers.md").read_text()
    code = re.search(r"```python\n(@dataclass.*?)```", page, re.DOTALL)[1]
    space = {"gfm": gfm}
    exec(re.search(r"```python\n(class Averaged.*?)```", page, re.DOTALL)[1], space)
    check_rule(space["Averaged"](lr=0.1), torch.zeros(5))
    for text, words in ((code, None), (code.partition("    def preconditioner_rate")[0], "define preconditioner_rate")):
        space = {"gfm": gfm, "dataclass": dataclass, "__name__": "page"}
        exec(text, space)
        if words is None:
            check_rule(space["Warm"](lr=0.1), torch.zeros(5))
        else:
            with pytest.raises(InputError, match=words):
                check_rule(space["Warm"](lr=0.1), torch.zeros(5))
