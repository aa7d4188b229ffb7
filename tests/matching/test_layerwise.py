"""The layerwise flow: what it finds in recorded weights, and what tuning on the loss changes."""

import numpy as np
import pytest
import torch

from gfm.errors import GfmError, InputError, NumericalError
from gfm.matching import LayerwiseFlow, Tuning, windows
from gfm.trajectories import Trajectories

GROUPS = ["0.weight"] * 40 + ["2.weight"] * 20
SHARE = np.repeat([0.5, -2.0], [40, 20])


def runs(count, states=6, seed=0, averages=False):
    """Prefixes of four states; at the end the weights have moved by a share of the last increment, by layer."""
    rng = np.random.default_rng(seed)
    weights = np.cumsum(rng.normal(size=(count, states, 60)), axis=1)
    increment = weights[:, 3] - weights[:, 2]
    for state in range(4, states):
        weights[:, state] = weights[:, 3] + SHARE * increment * (state - 3) / (states - 4)
    kept = {"momentum": rng.normal(size=weights.shape), "second": rng.uniform(0.1, 2, weights.shape)}
    meta = {"optimizer": "Adam", "lr": 1e-2}
    return Trajectories(weights, meta=meta, states=kept if averages else None, groups=GROUPS)


def test_it_finds_a_law_that_differs_between_layers():
    model = LayerwiseFlow(3).fit(runs(20))
    test = runs(3, seed=1)
    # the ridge leaves about its own share of the way
    np.testing.assert_allclose(model.forecast(test.prefix(3)), test.weights[:, 4:], atol=0.05)
    assert np.abs(test.weights[:, 4:] - test.weights[:, 3:4]).mean() > 0.5


def test_the_way_is_straight_and_of_constant_speed():
    model = LayerwiseFlow(3).fit(runs(20, states=9))
    prefix = runs(2, seed=1).prefix(3)
    ways = model.forecast(prefix) - prefix.weights[:, -1:]
    np.testing.assert_allclose(ways, ways[:, -1:] * np.arange(1, 6)[:, None] / 5, atol=1e-5)


def test_the_second_moment_sets_weights_of_a_layer_apart():
    """Weights with large second moments go on, the others turn back: linear features alone cannot tell them apart."""
    data = runs(30, averages=True)
    large = data.states["second"][:, 3] > 1
    way = np.where(large, 1, -1) * (data.weights[:, 3] - data.weights[:, 2])
    data.weights[:, 4:] = (data.weights[:, 3] + way)[:, None]
    train, test = data[:25], data[25:]
    with_averages = LayerwiseFlow(3).fit(train).forecast(test.prefix(3))[:, -1]
    plain = [Trajectories(part.weights, meta=part.meta, groups=GROUPS) for part in (train, test)]
    without = LayerwiseFlow(3).fit(plain[0]).forecast(plain[1].prefix(3))[:, -1]
    error = [np.square(found - test.final).mean() for found in (with_averages, without)]
    assert error[0] < 0.5 * error[1]


def square(weights, generator):
    return weights.square().sum()


def test_tuning_lowers_the_loss_at_the_end_of_the_way():
    """To the weights zero one goes by minus the last value, which is among the features."""
    data = runs(20)
    model = LayerwiseFlow(3).fit(data)
    test = runs(3, seed=2).prefix(3)
    before = np.square(model.forecast(test)[:, -1]).sum(axis=1)
    parameters = model.fitted.parameters
    model.tune(data.prefix(3), square, Tuning(steps=400, rate=3e-2, rounds=1))
    after = np.square(model.forecast(test)[:, -1]).sum(axis=1)
    assert (after < 0.1 * before).all() and (after < 0.1 * np.square(test.weights[:, -1]).sum(axis=1)).all()
    assert model.fitted.parameters == parameters and len(model.fitted.train) == 800


def test_later_rounds_see_the_windows_of_runs_that_follow_the_flow():
    asked = []

    def play(model, turn):
        asked.append((turn, model.forecast(runs(1).prefix(3))))
        return runs(2, seed=10 + turn).prefix(3)

    model = LayerwiseFlow(3).fit(runs(20))
    model.tune(runs(4).prefix(3), square, Tuning(steps=5, rounds=2), play)
    assert [turn for turn, _ in asked] == [1, 2] and not np.allclose(asked[0][1], asked[1][1])
    assert model.fitted.notes["windows"] == 8


def test_tuning_is_reproducible_and_depends_on_its_seed():
    def tuned(seed):
        def noisy(weights, generator):
            return (weights - torch.randn(60, generator=generator)).square().sum()

        model = LayerwiseFlow(3).fit(runs(20))
        return model.tune(runs(4).prefix(3), noisy, Tuning(steps=20, rounds=0, seed=seed)).coefficients

    assert torch.equal(tuned(0), tuned(0)) and not torch.equal(tuned(0), tuned(1))


def test_a_failed_tuning_leaves_the_fitted_flow_as_it_was():
    model = LayerwiseFlow(3).fit(runs(20))
    before = model.coefficients.clone()
    calls = []

    def breaks(weights, generator):
        calls.append(None)
        return weights.square().sum() * (float("nan") if len(calls) > 3 else 1.0)

    with pytest.raises(NumericalError, match="no longer finite"):
        model.tune(runs(4).prefix(3), breaks)
    assert torch.equal(model.coefficients, before) and len(calls) == 4
    with pytest.raises(InputError, match="differentiable"):
        model.tune(runs(4).prefix(3), lambda weights, generator: torch.tensor(1.0))


def test_windows_are_parts_of_runs_and_know_the_optimizers_count():
    data = runs(2, averages=True)
    found = windows(data, 4, 2)
    assert found.runs == 4 and found.steps.tolist() == [0, 1, 2, 3] and found.groups == tuple(GROUPS)
    np.testing.assert_array_equal(found.weights[2:], data.weights[:, 2:])
    np.testing.assert_array_equal(found.states["second"][:2], data.states["second"][:, :4])
    assert found.buffers["optimizer.step"].tolist() == [[0, 1, 2, 3]] * 2 + [[2, 3, 4, 5]] * 2
    with pytest.raises(InputError, match="cannot be cut"):
        windows(data, 7)


def test_another_optimizer_is_refused():
    data = runs(20, averages=True)
    model = LayerwiseFlow(3).fit(data)
    other = Trajectories(data.weights, meta={"optimizer": "AdamW", "lr": 1e-2}, states=data.states, groups=GROUPS)
    with pytest.raises(InputError, match="AdamW"):
        model.forecast(other.prefix(3))


def test_what_does_not_fit_is_said():
    with pytest.raises(GfmError, match="not fitted"):
        LayerwiseFlow(3).tune(runs(2).prefix(3), square)
    model = LayerwiseFlow(3).fit(runs(20))
    with pytest.raises(InputError, match="states 0..3"):
        model.tune(runs(2), square)
    with pytest.raises(InputError, match="gfm.Trajectories"):
        model.tune(runs(2).prefix(3).weights, square)
    with pytest.raises(InputError, match="differentiable"):
        model.tune(runs(2).prefix(3), lambda weights, generator: weights.square())
    with pytest.raises(InputError, match="same states of the optimizer"):
        model.forecast(runs(2, averages=True).prefix(3))
    for wrong in ({"steps": 0}, {"rounds": -1}, {"rate": 0.0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Tuning(**wrong)
