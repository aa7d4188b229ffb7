"""The last states of a run: how many, what they tell of the optimizer, and that a kept state stays what it was."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm.errors import InputError
from gfm.trajectories.recent import STEP, Recent


def trained(make, seen=2, every=1, steps=4):
    """A small module with its optimizer after some steps, and its last states; one is recorded after each step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make(model)
    recent = Recent(optimizer, model, seen, every)
    recent.record(0)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
        recent.record(step)
    return model, optimizer, recent


def adam(model):
    return torch.optim.Adam(model.parameters(), 1e-2)


def test_no_more_states_are_kept_than_a_window_has():
    model, _, recent = trained(adam, seen=2, steps=7)
    assert len(recent.states) == 3 and recent.window().weights.shape == (1, 3, 8)
    now = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    np.testing.assert_array_equal(recent.window().weights[0, -1], now)


def test_a_new_start_forgets_what_was_before():
    _, _, recent = trained(adam)
    assert recent.full
    recent.restart(4)
    assert not recent.full and len(recent.states) == 1
    with pytest.raises(InputError, match="A window has 3 states; 1 were recorded so far"):
        recent.window()


def test_steps_are_counted_by_the_optimizer_where_it_counts():
    """Of parameters that got their first gradients at different times, the one that got it first counts."""
    model, optimizer, recent = trained(adam, steps=2)
    optimizer.state[model.weight]["step"] = torch.tensor(50.0)
    recent.record(3)
    assert recent.window().buffers[STEP].tolist() == [[1, 2, 50]]
    _, _, plain = trained(lambda m: torch.optim.SGD(m.parameters(), 1e-3), every=5)
    assert plain.window().buffers[STEP].tolist() == [[2, 3, 4]]  # as told: this one does not count
    assert plain.window().steps.tolist() == [0, 5, 10]


def test_a_window_has_a_learning_rate_if_all_groups_have_the_same():
    for rates, expected in (((0.1, 0.1), 0.1), ((0.1, 0.2), None)):

        def groups(model, rates=rates):
            return torch.optim.SGD([{"params": [model.weight], "lr": rates[0]},
                                    {"params": [model.bias], "lr": rates[1]}], weight_decay=0.25)

        meta = trained(groups)[2].window().meta
        assert meta.get("lr") == expected and meta["options"] == {"momentum": 0, "weight_decay": 0.25}
    assert trained(adam)[2].window().meta["options"] == {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}


def test_what_was_loaded_does_not_change_with_the_tensors_it_came_from():
    _, _, recent = trained(adam)
    kept = recent.state_dict()
    before = recent.window()
    other = trained(adam)[2]
    other.load_state_dict(kept)
    for state in kept:
        state["weights"].zero_()
    found = other.window()
    np.testing.assert_array_equal(found.weights, before.weights)
    np.testing.assert_array_equal(found.states["second"], before.states["second"])


@pytest.mark.parametrize("state", [None, 3, "abc", [None], [{"weights": [1.0]}]])
def test_what_is_no_state_is_refused(state):
    recent = trained(adam)[2]
    before = recent.window().weights
    with pytest.raises(InputError, match="not the recorded states"):
        recent.load_state_dict(state)
    np.testing.assert_array_equal(recent.window().weights, before)


@pytest.mark.parametrize("make", [
    lambda m: torch.optim.SGD(m.parameters(), 0.1), lambda m: torch.optim.RMSprop(m.parameters(), 0.1),
])
def test_a_state_with_other_averages_is_refused(make):
    with pytest.raises(InputError, match="another model or optimizer"):
        trained(make)[2].load_state_dict(trained(adam)[2].state_dict())
