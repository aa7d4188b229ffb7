"""The optimizer's state read backwards gives the gradients that were used."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, GradientFlowMatching
from gfm.matching.damping import decline
from gfm.matching.optimizer_state import gradients, state_channels, state_features
from gfm.matching.restraint import Restraint
from gfm.trajectories import record
from gfm.trajectories.recent import STEP

generator = torch.Generator().manual_seed(0)
X = torch.randn(40, 12, 1, dtype=torch.float64, generator=generator)
Y = X * torch.randn(40, 1, 1, dtype=torch.float64, generator=generator)


def build():
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def mean_square(outputs, targets):
    return (outputs - targets).square().mean()


def recorded(optimizer, steps=6, states=True):
    return record(build, X, Y, mean_square, optimizer, lr=0.01, runs=40, steps=steps, states=states,
                  per_run=True)


def true_gradient(weights, run):
    net = build()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights.copy()), net.parameters())
    mean_square(net(X[run]), Y[run]).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()]).numpy()


@pytest.mark.parametrize("optimizer", ["SGD", "momentum", "RMSprop", "Adam"])
def test_gradients_are_rebuilt(optimizer):
    data = recorded(optimizer)
    rebuilt = gradients(data)
    for step in (0, 3, 5):
        expected = true_gradient(data.weights[2, step], 2)
        np.testing.assert_allclose(rebuilt[2, step], expected, rtol=1e-5, atol=1e-9)


def test_features_know_gaps_in_the_record():
    """The averages at the last state and the step that they give, all times the learning rate."""
    data = recorded("Adam")
    assert state_features(data).shape == (40 * 10, 6 + 1)
    m, v = (data.states[name][:, -1].reshape(-1) for name in ("momentum", "second"))
    m, v = m / (1 - 0.9**6), v / (1 - 0.999**6)  # six steps after their start from zero
    expected = 0.01 * np.stack([m, m / (np.sqrt(v) + 1e-8), np.sqrt(v)], axis=1)
    np.testing.assert_allclose(state_features(data.every(2)), expected)


def test_a_run_slows_by_its_gradients_or_where_states_are_missing_by_its_increments():
    """Adam's steps are of one size long after its gradients have shrunk."""
    data = recorded("Adam")
    by_gradients, by_increments = Restraint(optimizer_state=True), Restraint(optimizer_state=False)
    sizes = np.square(gradients(data)).sum(axis=2)
    np.testing.assert_allclose(by_gradients.rates(data), decline(sizes))
    assert not np.allclose(by_gradients.rates(data), by_increments.rates(data))
    gaps = data.every(2)
    np.testing.assert_array_equal(by_gradients.rates(gaps), by_increments.rates(gaps))


def test_the_size_of_gradients_stands_in_for_a_second_moment():
    for optimizer in ("SGD", "momentum"):
        data = recorded(optimizer)
        last = state_features(data).reshape(40, 10, 6 + 1)[2, :, -1]
        steps = [true_gradient(data.weights[2, step], 2) for step in range(6)]
        np.testing.assert_allclose(last, 0.01 * np.sqrt(np.mean(np.square(steps), axis=0)), rtol=1e-6)
    kept = recorded("RMSprop")  # keeps one of its own
    expected = 0.01 * np.sqrt(kept.states["second"][2, -1])
    np.testing.assert_allclose(state_features(kept).reshape(40, 10, 7)[2, :, -1], expected)


def test_a_record_without_state_is_refused_where_it_is_needed():
    with pytest.raises(InputError, match="states=True"):
        gradients(recorded("Adam", states=False))
    with pytest.raises(InputError, match="knows SGD"):
        gradients(Trajectories(np.zeros((1, 3, 2)), meta={"optimizer": "Lion", "lr": 1.0}))


def test_the_model_uses_the_state_when_told_and_needs_it_then():
    train, val, test = recorded("Adam", steps=24).split(24, 8, 8)
    options = {"observed": 6, "view": "coordinate", "training": Training(epochs=2)}
    model = GradientFlowMatching(conditioning=Conditioning(optimizer_state=True), **options).fit(train, validation=val)
    assert model.flow.optimizer_state and model.forecast(test.prefix(6), 5).shape == (8, 5, 10)
    with pytest.raises(InputError):
        model.forecast(test.prefix(6).weights, 5)
    blind = GradientFlowMatching(conditioning=Conditioning(optimizer_state=False), **options).fit(train, validation=val)
    assert blind.forecast(test.prefix(6).weights, 5).shape == (8, 5, 10)


def test_a_missing_state_is_named_with_what_to_do():
    with pytest.raises(InputError, match=r"'momentum' .*states=True, or use .*Conditioning\(optimizer_state=False\)"):
        gradients(recorded("Adam", states=False))


def test_averages_are_corrected_for_their_start_by_the_optimizers_own_count():
    """The same averages after 10 and after 1000 steps stand for different means of the gradients."""
    momentum, second = (np.full((2, 3, 4), value) for value in (0.3, 0.02))
    counts = np.array([[2, 6, 10], [992, 996, 1000]])
    data = Trajectories(
        np.random.default_rng(0).normal(size=(2, 3, 4)), [0, 4, 8], None, {"optimizer": "AdamW", "lr": 0.1},
        {"momentum": momentum, "second": second}, buffers={STEP: counts},
    )
    found = state_features(data).reshape(2, 4, 3)
    for run, k in enumerate((10, 1000)):
        m, v = 0.3 / (1 - 0.9**k), 0.02 / (1 - 0.999**k)
        known = [0.1 * m, 0.1 * m / (np.sqrt(v) + 1e-8), 0.1 * np.sqrt(v)]
        np.testing.assert_allclose(found[run], np.tile(known, (4, 1)))


def test_channels_tell_state_by_state_what_the_features_tell():
    data, k = recorded("Adam"), np.arange(1, 7)
    found = state_channels(data).reshape(40, 10, 7, 5)[2]
    gradient = np.stack([true_gradient(data.weights[2, step], 2) for step in range(6)], axis=1)
    momentum, second = (data.states[name][2, 1:].T for name in ("momentum", "second"))
    momentum, root = momentum / (1 - 0.9**k), np.sqrt(second / (1 - 0.999**k))
    unit = root[:, -1:]
    known = [0.01 * gradient, gradient / unit, 0.01 * momentum, momentum / unit, np.log(root)]
    np.testing.assert_allclose(found[:, 1:], np.stack(known, axis=-1), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(found[:, 0, :4], 0)


@pytest.mark.parametrize("optimizer, count", [("SGD", 3), ("momentum", 5), ("RMSprop", 3), ("Adam", 5)])
def test_channels_of_every_optimizer_and_of_records_with_gaps(optimizer, count):
    data = recorded(optimizer)
    assert state_channels(data).shape == (400, 7, count)
    if optimizer == "SGD":
        with pytest.raises(InputError, match="recorded state"):
            state_channels(data.every(2))
    else:
        assert state_channels(data.every(2)).shape == (400, 4, count - 2)


def test_channels_of_weights_without_gradient_are_numbers():
    still = Trajectories(np.ones((2, 4, 3)), None, None, {"optimizer": "Adam", "lr": 0.1},
                         {name: np.zeros((2, 4, 3)) for name in ("momentum", "second")})
    assert np.isfinite(state_channels(still)).all()
