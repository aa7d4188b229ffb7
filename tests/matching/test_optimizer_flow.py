"""Gradient flow matching: the optimizer inside the flow, its schedule and its own count of steps."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from test_matched import LINEAR, model, momentum, relative, start

from gfm import Trajectories
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, Solver


def recorded(name, runs=12, parameters=6, first=0, steps=30, factors=None, still=(), seed=0):
    """Runs of torch's optimizer on quadratics, from its step ``first`` on, and their gradients."""
    generator = torch.Generator().manual_seed(seed)
    w, optimum, size = torch.randn(3, runs, parameters, dtype=torch.float64, generator=generator)
    w.requires_grad_()
    options = {"weight_decay": 0.1} if name == "AdamW" else {"momentum": 0.8} if name == "momentum" else {}
    names = {"momentum": {"momentum": "momentum_buffer"}, "AdamW": {"momentum": "exp_avg", "second": "exp_avg_sq"}}
    kind = torch.optim.AdamW if name == "AdamW" else torch.optim.SGD
    optimizer = kind([{"params": [w]}], lr=0.02, **options)
    kept, gradients = {"weights": [], **{ours: [] for ours in names.get(name, {})}}, []
    for step in range(first + steps + 1):
        if step >= first:
            kept["weights"].append(w.detach().numpy().copy())
            for ours, theirs in names.get(name, {}).items():
                kept[ours].append(optimizer.state[w][theirs].numpy().copy() if step else np.zeros((runs, parameters)))
        w.grad = size.exp() * (w.detach() - optimum)
        gradients.append(w.grad.numpy().copy())
        optimizer.param_groups[0]["lr"] = 0.02 * (factors[step] if factors else 1.0)
        before = w.detach().clone()
        optimizer.step()
        w.data[:, list(still)] = before[:, list(still)]
    arrays = {ours: np.stack(value, axis=1) for ours, value in kept.items()}
    meta = {"optimizer": name, "lr": 0.02, "options": options} | ({"schedule": factors} if factors else {})
    return Trajectories(arrays.pop("weights"), meta=meta, states=arrays), np.stack(gradients[first:], axis=1)


def numbered(data, first):
    """The same runs with the optimizer's own count of steps."""
    count = np.broadcast_to(first + data.steps, data.weights.shape[:2])
    return Trajectories(data.weights, meta=data.meta, states=data.states, buffers={"optimizer.step": count})


def wrong(data, gradients, n=10):
    """Largest difference between the recorded steps of x and those of the flow under the true gradients, relative."""
    _, course = start(data, n=n, optimizer_state=True, context="ends")
    # what the average is divided by
    unit = torch.from_numpy(data.states["momentum"][:, n].reshape(-1)) / course.z[:, n, 1]
    g = torch.from_numpy(np.moveaxis(gradients, 1, 2).reshape(len(unit), -1))[:, :-1] / unit[:, None]
    z, moved = course.z[:, :-1], course.z.diff(dim=1)
    off = course.velocity(z, g, g**2, course.steps[:, :-1], 1) - moved
    return (off.abs().amax(dim=(0, 1)) / moved.abs().amax(dim=(0, 1))).max().item()


def test_the_state_as_inputs_only_leaves_the_flow_of_plain_descent():
    data, _ = recorded("AdamW")
    (whole, inputs, blind) = (start(data, n=10, optimizer_state=how)[1] for how in (True, "inputs", False))
    np.testing.assert_array_equal(inputs.context, whole.context)
    assert inputs.context.shape[1] > blind.context.shape[1]
    assert torch.equal(inputs.z, blind.z) and inputs.z.shape[2] == 1 < whole.z.shape[2]
    at = inputs.z[:, :5], torch.ones_like(inputs.steps[:, :5]), None, inputs.steps[:, :5], 1
    assert torch.allclose(inputs.velocity(*at), blind.velocity(*at), rtol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "AdamW"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_with_the_true_gradients_the_flow_is_torchs_in_its_own_units(name, scheduled):
    factors = np.linspace(1, 0.1, 31).tolist() if scheduled else None
    data, gradients = recorded(name, factors=factors)
    assert wrong(data, gradients) < 1e-6
    if scheduled:
        data.meta.pop("schedule")
        assert wrong(data, gradients) > 0.1


def test_the_optimizers_own_count_of_steps_corrects_adams_averages():
    data, gradients = recorded("AdamW", first=100)
    assert wrong(numbered(data, 100), gradients) < 1e-6
    assert wrong(data, gradients) > 0.1
    forecasts = [model(10, conditioning=Conditioning("ends", "run", True)).fit(each).forecast(each.prefix(10))
                 for each in (data, numbered(data, 100))]
    assert not np.allclose(*forecasts)


def test_runs_that_count_their_steps_differently_each_have_their_own_rate():
    """Two halves of one schedule: each run's rate is that of its own step."""
    factors = (0.97 ** np.arange(200)).tolist()
    parts = [recorded("momentum", first=first, factors=factors) for first in (0, 20)]
    states = {"momentum": np.concatenate([data.states["momentum"] for data, _ in parts])}
    count = np.concatenate([np.tile(first + np.arange(31), (12, 1)) for first in (0, 20)])
    both = Trajectories(np.concatenate([data.weights for data, _ in parts]), meta=parts[0][0].meta, states=states,
                        buffers={"optimizer.step": count})
    assert wrong(both, np.concatenate([g for _, g in parts])) < 1e-6


def test_several_steps_at_once_take_the_mean_of_their_factors():
    factors = [1.0, 0.5, 0.25, 0.25, 2.0, 4.0]
    data, _ = recorded("SGD", steps=8, factors=[*factors, 4.0, 4.0, 4.0])
    data.meta["schedule"] = factors  # the last one stays
    factor = start(data, n=2)[1].factor
    assert factor(torch.tensor([0.0, 2.0, 4.0, 90.0]), 4).tolist() == [0.5, 1.625, 3.5, 4.0]
    assert factor(torch.tensor([0.5]), 1).tolist() == [0.75]  # half a step of each


def test_a_schedule_that_is_told_is_followed_also_when_it_is_a_new_one():
    """Quadratics of one curvature: g = h (w - w*) is exactly linear, so that all that is hard is the rate."""
    rng = np.random.default_rng(0)

    def descents(factors):
        w, optimum = rng.normal(size=(2, 60, 3))
        states = [w]
        for factor in factors:
            states.append(states[-1] - 0.05 * factor * (states[-1] - optimum))
        return Trajectories(np.stack(states, axis=1), meta={"optimizer": "SGD", "lr": 0.05, "schedule": factors})

    dropped, waved = [1.0] * 25 + [0.1] * 35, [1.0] * 10 + (1 + np.sin(np.arange(50))).tolist()
    train, test = descents(dropped).split(40, 20)
    other = descents(waved)
    options = {"network": replace(LINEAR, knots=1), "conditioning": Conditioning("ends", "run")}

    def errors():
        fitted = model(10, **options).fit(train)
        return [np.square(fitted.forecast(data.prefix(10)) - data.weights[:, 11:]).mean() for data in (test, other)]

    told = errors()
    for data in (train, test, other):
        data.meta.pop("schedule")
    blind = errors()
    assert max(told) < 1e-10 and blind[0] > 1e-4 and blind[1] > 1e-3


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_weights_that_have_not_moved_are_held(name):
    data, _ = recorded(name, runs=20, still=(1, 4))
    data.weights[-1] = data.weights[-1][0]  # a run that stands still altogether
    for state in data.states.values():
        state[-1] = 0
    fitted = model(10, conditioning=Conditioning("ends", "run", name != "SGD")).fit(data[:14])
    forecast, last = fitted.forecast(data.prefix(10)), data.weights[:, 10:11]
    assert (forecast[:, :, [1, 4]] == last[:, :, [1, 4]]).all() and (forecast[-1] == last[-1]).all()
    assert (forecast[:-1, :, [0, 2, 3, 5]] != last[:-1, :, [0, 2, 3, 5]]).all()


@pytest.mark.parametrize("scale", ["run", "layer"])
@pytest.mark.no_cover
def test_chunks_do_not_change_the_forecast_along_the_optimizers_state(scale):
    def labelled(parameters, seed):
        data, _ = recorded("AdamW", runs=8, parameters=parameters, first=5, seed=seed,
                           factors=np.linspace(1, 0.5, 40).tolist())
        groups = [("0.weight", "2.weight")[3 * number > parameters] for number in range(parameters)]
        count = np.arange(8)[:, None] + np.arange(31)  # not even in step
        data.states["second"][:, :, ::3] *= 1e-12  # far below the others: the unit is one of the whole run
        data.states["second"][:, :, parameters // 2 :] *= 100
        return Trajectories(data.weights * np.linspace(1, 9, parameters), groups=groups, meta=data.meta,
                            states=data.states, buffers={"optimizer.step": count})

    fitted = model(10, conditioning=Conditioning("ends", scale, True)).fit(labelled(6, 0))
    prefix = labelled(900, 1).prefix(10)
    whole = fitted.forecast(prefix)
    fitted.options = replace(fitted.options, solver=Solver(memory=2**20))
    assert 5 * 2**20 < fitted.flow.bytes_per_weight(20) * 8 * 900
    np.testing.assert_allclose(fitted.forecast(prefix), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.no_cover
def test_fits_are_repeatable_and_independent(name):
    small = {"runs": 6, "parameters": 3}
    (one, _), (other, _) = recorded(name, **small, steps=24), recorded(name, **small, steps=20, seed=1)
    prefix = one.prefix(10)
    used, fresh = model(10, training=Training(epochs=2, batch=16)), model(10, training=Training(epochs=2, batch=16))
    expected = fresh.fit(one).forecast(prefix)
    np.testing.assert_array_equal(used.fit(other).fit(one).forecast(prefix), expected)
    fresh.fit(other)
    np.testing.assert_array_equal(used.forecast(prefix), expected)


@cache
def error_with(solver):
    train, held, test = momentum(runs=100).split(60, 20, 20)
    for data in (train, held, test):
        data.meta["schedule"] = [1.0] * 50
    fitted = model(10, conditioning=Conditioning("ends", "run", True), solver=solver).fit(train, held)
    return relative(fitted.forecast(test.prefix(10)), test)


@pytest.mark.parametrize("solver", [Solver(dtype="float32"), Solver("rk4"), Solver(substeps=3)])
def test_single_precision_and_finer_steps_change_little(solver):
    base, other = error_with(Solver()), error_with(solver)
    assert other == pytest.approx(base, rel=0.1) and base < 0.5
