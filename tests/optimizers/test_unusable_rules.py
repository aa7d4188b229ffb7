"""Rules that no process could use, and those that only look like them."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_consistency import ALONE, FLOWS, Ageing, PlainRule, run
from test_inconsistent_rules import Momentum
from toys import tiny_problem

import gfm
from gfm.errors import InputError
from gfm.optimizers import GradientDescent, Optimizer, State, check_rule


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
