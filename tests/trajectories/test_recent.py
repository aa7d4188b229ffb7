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
    for state in kept["states"]:
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


@pytest.mark.parametrize("make, kind", [
    (lambda m: torch.optim.Adam(m.parameters(), 1e-2, amsgrad=True), "Adam with amsgrad"),
    (lambda m: torch.optim.SGD(m.parameters(), 1e-2, momentum=0.9, nesterov=True), "SGD with nesterov"),
    (lambda m: torch.optim.RMSprop(m.parameters(), 1e-2, centered=True), "RMSprop with centered"),
    (lambda m: torch.optim.RMSprop(m.parameters(), 1e-2, momentum=0.9), "RMSprop with momentum"),
    (lambda m: torch.optim.SGD([{"params": [m.weight]}, {"params": [m.bias], "momentum": 0.9}], 1e-2),
     "SGD with different momentum"),
    (lambda m: torch.optim.Adam([{"params": [m.weight]}, {"params": [m.bias], "betas": (0.8, 0.9)}], 1e-2),
     "Adam with different betas"),
])
def test_another_rule_than_the_known_ones_is_not_taken_for_one(make, kind):
    window = trained(make)[2].window()
    assert window.meta["optimizer"] == kind and not window.states


def test_options_in_which_groups_differ_are_not_told_for_all():
    def groups(model):
        return torch.optim.AdamW([{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}], 1e-2)

    window = trained(groups)[2].window()
    assert window.meta["options"] == {"betas": (0.9, 0.999), "eps": 1e-8} and window.meta["optimizer"] == "AdamW"
    assert set(window.states) == {"momentum", "second"}


def test_a_state_shares_no_memory_with_the_run():
    _, _, recent = trained(adam)
    before = recent.window().weights
    for state in recent.state_dict()["states"]:
        state["weights"].zero_()
    np.testing.assert_array_equal(recent.window().weights, before)


def test_a_state_of_another_model_with_as_many_weights_is_refused():
    kept = trained(adam)[2].state_dict()
    other = nn.Sequential(nn.Linear(7, 1))
    with pytest.raises(InputError, match="belongs to another model or optimizer"):
        Recent(torch.optim.Adam(other.parameters()), other, 2, 1).load_state_dict(kept)


def test_a_state_that_needs_gradients_is_taken_as_numbers():
    _, _, recent = trained(adam)
    kept = recent.state_dict()
    for state in kept["states"]:
        state["weights"].requires_grad_()
    trained(adam)[2].load_state_dict(kept)


@pytest.mark.parametrize("numbers", [{"seen": 0}, {"every": 0}, {"seen": 1.5}])
def test_numbers_below_one_are_refused(numbers):
    model = nn.Linear(2, 1)
    with pytest.raises(InputError, match="whole number of at least 1"):
        Recent(adam(model), model, **{"seen": 2, "every": 1, **numbers})


def test_complex_weights_are_refused():
    model = nn.Linear(2, 1, dtype=torch.complex64)
    with pytest.raises(InputError, match="complex weights"):
        Recent(adam(model), model, 2, 1)
