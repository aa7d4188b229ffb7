"""Rules whose flow would be another rule's."""

import numpy as np
import pytest
import torch
from test_consistency import ALONE, FLOWS, run
from toys import tiny_problem

from gfm.errors import InputError
from gfm.optimizers import Adam, Filter, GradientDescent, HeavyBall, Memory, RMSProp, State


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
