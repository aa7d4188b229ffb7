"""What the Nowcaster refuses, and that it then leaves the run as it was."""

import numpy as np
import pytest
import torch
from test_nowcasting import Run, away, network
from torch import nn

import gfm
from gfm.errors import GfmError, InputError
from gfm.nowcasting import Nowcaster


def test_an_error_in_the_loss_leaves_the_weights_as_they_were():
    run = Run(seen=2, every=1)
    run.rows = torch.arange(8)
    run.nowcaster.step(run.loss)
    before, calls = run.weights(), []

    def broken():
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("the disk is full")
        return run.loss()

    with torch.no_grad():
        run.model[0].weight.add_(0.1)
    before = run.weights()
    with pytest.raises(RuntimeError, match="disk"):
        run.nowcaster.step(broken)
    assert len(calls) == 2 and torch.equal(run.weights(), before)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m, o: Nowcaster(m, o), "optimizer and then the module"),
        (lambda m, o: Nowcaster(o, nn.Linear(2, 2)), "none of the model's weights"),
        (lambda m, o: Nowcaster(o, m, every=0), "every"),
        (lambda m, o: Nowcaster(o, m, seen=0), "seen"),
        (lambda m, o: Nowcaster(o, m, ahead=(1,)), "belongs to a forecaster"),
        (lambda m, o: Nowcaster(torch.optim.SGD(m.parameters(), 0.1, maximize=True), m), "maximises"),
        (lambda m, o: Nowcaster(o, m, "linear"), "function of a window"),
        (lambda m, o: Nowcaster(o, m, gfm.matching.LayerwiseFlow), "function of a window"),
        (lambda m, o: Nowcaster(o, m, gate=None), "gate"),
        (lambda m, o: Nowcaster(o, m, gfm.forecasters.available()["ols"]()), "not fitted"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(make, words):
    model = network()
    with pytest.raises(GfmError, match=words):
        make(model, torch.optim.SGD(model.parameters(), 0.1))


def test_a_look_needs_the_loss_and_weights_of_the_right_shape():
    run = Run(seen=1, every=1)
    with pytest.raises(InputError, match="needs the loss"):
        run.nowcaster.step()
    wrong = Run(rule=lambda window: np.zeros(3), seen=1, every=1)
    with pytest.raises(InputError, match="candidates"):
        wrong.step()
    with pytest.raises(InputError, match="were recorded so far"):
        Run(seen=5).nowcaster.window()


def test_states_of_something_else_are_refused():
    run = Run(seen=2, every=1)
    with pytest.raises(InputError, match="not the state"):
        run.nowcaster.load_state_dict({"steps": 3})
    other = Run(lambda p: torch.optim.SGD(p, 0.1), model=nn.Sequential(nn.Linear(6, 1)), seen=2, every=1)
    with pytest.raises(InputError, match="another model"):
        run.nowcaster.load_state_dict(other.nowcaster.state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
def test_without_a_gate_no_jump_leaves_the_finite_numbers(value):
    run = Run(rule=lambda window: np.full((1, window.parameters), value), seen=1, every=1, gate=False)
    run.go(5)
    assert run.nowcaster.looks > 0 == run.nowcaster.jumps and torch.isfinite(run.weights()).all()


def test_replaced_parameters_are_noticed():
    run = Run(seen=1, every=1)
    run.model[4] = nn.Linear(12, 1)
    with pytest.raises(InputError, match="make a new Nowcaster"):
        run.go(3)


def test_a_forecaster_of_other_distances_is_refused():
    data = gfm.Trajectories(np.cumsum(np.ones((1, 9, 5)), axis=1), np.arange(9) * 2)
    model = gfm.forecasters.available()["linear-ends"](observed=3).fit(data)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with pytest.raises(InputError, match="2 steps apart"):
        Nowcaster(optimizer, net, model)
    with pytest.raises(InputError, match="sequence"):
        Nowcaster(optimizer, net, model, every=2, ahead=4)
    other = Nowcaster(optimizer, net, model, every=2).state_dict()
    with pytest.raises(InputError, match="every"):
        Nowcaster(optimizer, net, seen=3, every=1).load_state_dict(other)


@pytest.mark.parametrize("value", [torch.ones(3), None, "much", 1j, (1.0, 2.0)])
def test_a_loss_that_is_no_number_is_refused_and_the_weights_stay(value):
    run = Run(rule=away, seen=1, every=1)
    before = run.weights()
    with pytest.raises(InputError, match="one real number"):
        run.nowcaster.step(lambda: value)
    assert torch.equal(run.weights(), before)
    with pytest.raises(InputError, match="takes a function"):
        run.nowcaster.step(torch.tensor(1.0))
