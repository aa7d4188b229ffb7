"""The losses by analytic facts: a field that is the true one has none, and a known velocity is found."""

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching import (
    AffineVectorField,
    Flow,
    FlowForecaster,
    FlowOptions,
    IncrementPath,
    MemorylessFlow,
    Network,
    VectorFlow,
    flow_matching_loss,
)
from gfm.matching.restraint import Restraint

rng = np.random.default_rng(0)


def generator():
    return torch.Generator().manual_seed(0)


# -- the one loss --------------------------------------------------------------------------------
def test_the_field_is_asked_at_the_place_and_time_of_the_path():
    """From 0 to 1 in four steps the location is the share of the way, so it tells the time."""
    seen = {}

    def field(x, t):
        seen.update(x=x, t=t)
        return torch.zeros_like(x)

    start = torch.tensor([3, 7, 11])
    x0, x1, weight = torch.zeros(3), torch.ones(3), torch.tensor([1.0, 2.0, 6.0])
    loss = flow_matching_loss(field, IncrementPath("linear", span=4), x0, x1, start, lambda _, u: 2 * u,
                              generator(), weight)
    torch.testing.assert_close(seen["t"], start + 4 * seen["x"])
    assert seen["x"].min() > 0 and seen["x"].unique().numel() == 3
    assert loss.item() == pytest.approx(3 * (2 * 0.25) ** 2)  # the mean weight is 3, the velocity a quarter


def test_the_true_field_has_no_loss_and_any_other_has():
    """Linear paths of a constant speed, of any span: the location within the path does not matter."""
    speed = torch.from_numpy(rng.normal(size=50))
    x0 = torch.from_numpy(rng.normal(size=50))
    for path in (IncrementPath(), IncrementPath(span=7), IncrementPath("linear", noise=0.1, span=7)):
        def loss(factor, path=path):
            ends = (x0, x0 + path.span * speed)
            return flow_matching_loss(lambda x, t: factor * speed, path, *ends, torch.zeros(50), lambda _, u: u,
                                      generator())

        assert loss(1.0) < 1e-25
        assert loss(1.1) == pytest.approx(0.01 * speed.square().mean().item())


def test_the_minimiser_is_the_mean_velocity_at_a_place():
    """Steps of -0.1 x and noise from recorded places: least squares over the draws finds -0.1, without a bias."""
    x0, noise = torch.randn(2, 40_000, dtype=torch.float64, generator=generator())
    x1 = 0.9 * x0 + noise
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def fitted(path):
        start = torch.zeros(len(x0))
        loss = flow_matching_loss(lambda x, t: slope * x, path, x0, x1, start, lambda _, u: u, generator())
        (first,) = torch.autograd.grad(loss, slope, create_graph=True)
        (second,) = torch.autograd.grad(first, slope)
        return -first.item() / second.item()  # the loss is quadratic in the slope

    error = 1 / np.sqrt(40_000)
    assert abs(fitted(IncrementPath()) + 0.1) < 4 * error
    assert fitted(IncrementPath("linear")) > -0.1 + 20 * error  # such a place already has part of the step's noise


# -- the flows -----------------------------------------------------------------------------------
def test_a_memoryless_flow_moves_at_the_recorded_speed():
    """All weights move at 1 a step, and at 3 from step 10 on: known at every time."""
    speed = np.where(np.arange(20) < 10, 1.0, 3.0)
    way = np.concatenate([[0.0], np.cumsum(speed)])[None, :, None]
    data = Trajectories(np.random.default_rng(0).normal(size=(12, 1, 3)) + way)
    training = Training(rate=2e-2, batch=12, epochs=300, patience=300, schedule="one-cycle")
    model = MemorylessFlow(10, hidden=(32,), samples=500, training=training).fit(data)
    moved = model.forecast(data.prefix(10)) - data.weights[:, 10:11]
    np.testing.assert_allclose(moved[:, -1], 30, rtol=0.05)
    np.testing.assert_allclose(moved[:, 2], 9, rtol=0.25)


@pytest.mark.parametrize("span", [1, 4])
def test_the_vector_views_network_starts_from_what_the_affine_field_leaves(span):
    """Its unit is the size of that, so that an untrained network, which says zero, has a loss of one."""
    states = [rng.uniform(-1, 1, size=(40, 1, 2))]
    for _ in range(40):
        states.append(states[-1] + 0.01 * (2 - states[-1] - 3 * states[-1] ** 3))
    data = Trajectories(np.concatenate(states, axis=1))
    training = Training(batch=40, epochs=1)
    report = FitReport()
    VectorFlow(4, FlowOptions(network=Network(), path=IncrementPath(span=span), training=training)).fit(
        data, data, report
    )
    assert report.train[0] == pytest.approx(1, abs=0.4)


def test_increments_far_from_the_optimum_weigh_less_where_noise_grows_with_the_distance():
    states = [rng.normal(size=(60, 2))]
    for _ in range(40):
        noise = 0.3 * np.linalg.norm(states[-1], axis=1, keepdims=True) * rng.normal(size=(60, 2))
        states.append(0.95 * states[-1] + noise)
    weights = np.stack(states, axis=1)
    plain, weighted = (AffineVectorField.match(weights, passes) for passes in (1, 3))
    wrong = [np.abs(np.append(f.matrix + 0.05 * np.eye(2), f.offset)).max() for f in (plain, weighted)]
    assert wrong[1] < 0.5 * wrong[0]


def adam(runs=12, steps=30, parameters=4):
    """Runs with Adam's averages as they are recorded; the gradients are any numbers, declining at 0.05 a step."""
    g = rng.normal(size=(runs, steps, parameters)) * np.exp(-0.05 * np.arange(steps))[:, None]
    momentum = np.zeros((runs, steps + 1, parameters))
    for k in range(steps):
        momentum[:, k + 1] = 0.9 * momentum[:, k] + 0.1 * g[:, k]
    second = rng.uniform(1, 2, size=momentum.shape)
    weights = np.cumsum(rng.normal(size=momentum.shape), axis=1)
    meta = {"optimizer": "Adam", "lr": 0.1}
    return Trajectories(weights, meta=meta, states={"momentum": momentum, "second": second}), g


def test_rates_are_those_of_the_gradients_where_the_optimizers_state_is_used():
    data, g = adam()
    known = -np.polyfit(np.arange(20), 0.5 * np.log(np.square(g[:, :20]).sum(axis=2)).T, 1)[0]
    found = Restraint(optimizer_state=True).rates(data.prefix(20))
    np.testing.assert_allclose(found, np.maximum(known, 1e-4), rtol=1e-6)
    assert np.abs(Restraint().rates(data.prefix(20)) - known).max() > 0.01


# -- the interface -------------------------------------------------------------------------------
@pytest.mark.parametrize(("gain", "kept"), [(0.5, False), (1.5, True)])
def test_a_flow_is_one_class_and_a_later_one_has_to_gain_a_standard_error(gain, kept):
    noise = rng.normal(size=8)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * np.sqrt(8)  # the mean has a standard error of one

    class Plain(Flow):
        view = "plain"
        size, notes = 5, {"toys": 1}

        def fit(self, train, held, report):
            report.train.append(self.size)
            return 20 + noise

        def forecast(self, prefix, horizon, solver):
            return np.repeat(prefix.weights[:, -1:], horizon, axis=1)

    class Fancy(Plain):
        view = "fancy"
        size = 7

        @classmethod
        def suits(cls, train):
            return True

        def fit(self, train, held, report):
            return super().fit(train, held, report) - noise - gain

    class Model(FlowForecaster):
        flows = (Plain, Fancy)

    Plain.suits = Fancy.suits
    data = Trajectories(rng.normal(size=(8, 12, 2)))
    model = Model(4, "auto", FlowOptions()).fit(data, data)
    assert isinstance(model.flow, Fancy) == kept
    assert model.report.notes["toys"] == 1 and model.report.parameters == model.report.train[0] == (7 if kept else 5)
    assert model.forecast(data.prefix(4), 3).shape == (8, 3, 2)
    assert model.with_damping("none").flow is model.flow  # damping stands beside the flow
    assert type(Model(4, "plain", FlowOptions()).fit(data, data).flow) is Plain
