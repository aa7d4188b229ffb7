"""The losses by analytic facts: a field that is the true one has none, and a known velocity is found."""

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching import (
    AffineVectorField,
    Conditioning,
    CoordinateFlow,
    CorrectionField,
    Flow,
    FlowOptions,
    GradientFlowMatching,
    IncrementPath,
    MemorylessFlow,
    Network,
    VectorFlow,
    flow_matching_loss,
)
from gfm.matching.correction import Residuals, end_point_loss, fit_correction, velocity_loss
from gfm.matching.frame import units_of
from gfm.matching.model import FLOWS

rng = np.random.default_rng(0)


def generator():
    return torch.Generator().manual_seed(0)


def residuals(kappa, u, horizon=40, runs=3, parameters=4):
    """y_{k+1} = (1 - kappa) y_k + u(k / horizon, c) / horizon from y_0 = 0, with c the only feature of the context."""
    context = torch.from_numpy(rng.normal(size=(runs, parameters, 1)))
    y = [torch.zeros(runs, parameters, dtype=torch.float64)]
    for k in range(horizon):
        y.append((1 - kappa) * y[-1] + u(k / horizon, context[..., 0]) / horizon)
    weight = torch.from_numpy(rng.uniform(0.5, 2, size=(runs, parameters)))
    return Residuals(torch.stack(y, dim=-1), context, weight, kappa)


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


@pytest.mark.parametrize("kappa", [0.0, 0.03])
@pytest.mark.parametrize("span", [1, 10])
def test_the_true_field_has_no_velocity_loss(kappa, span):
    """A constant field over any span, whatever the affine part's decay; and one of the time, step by step."""
    runs, path = torch.arange(3), IncrementPath(span=span)
    data = residuals(kappa, lambda t, c: c)
    assert velocity_loss(lambda y, t, c: c[:, 0], data, runs, path, 500, generator()) < 1e-20
    assert velocity_loss(lambda y, t, c: 1.1 * c[:, 0], data, runs, path, 500, generator()) > 1e-3
    if span == 1:
        data = residuals(kappa, lambda t, c: c * t)
        assert velocity_loss(lambda y, t, c: c[:, 0] * t, data, runs, path, 500, generator()) < 1e-10


@pytest.mark.parametrize("kappa", [0.0, 0.03])
def test_the_true_field_has_no_end_point_loss(kappa):
    data = residuals(kappa, lambda t, c: c)
    assert end_point_loss(lambda y, t, c: c[:, 0], data, torch.arange(3)) < 1e-20
    off = end_point_loss(lambda y, t, c: c[:, 0] * 0, data, torch.arange(3))
    marks = data.y[..., 4::4]  # ten equidistant times up to the end
    torch.testing.assert_close(off, (data.weight[..., None] * marks.square()).mean())


def test_each_target_trains_by_its_own_loss():
    """With one batch, an epoch's training loss is the loss at the field before it."""
    data = residuals(0.03, lambda t, c: c)
    path, runs = IncrementPath(span=10), torch.arange(3)
    losses = {}
    for target in ("velocity", "end-point", "both"):
        field = CorrectionField(1, (4,), dtype=torch.float64)
        torch.nn.init.ones_(field.net[-1].weight)
        draws = generator()
        order = torch.randperm(3, generator=draws)
        velocity = velocity_loss(field, data, order, path, 50, draws).item()
        expected = {"velocity": velocity, "end-point": end_point_loss(field, data, runs).item()}
        expected["both"] = sum(expected.values())
        report = FitReport()
        fit_correction(field, data, data, Network(target=target, samples=50), path, Training(epochs=1), report)
        assert report.train[0] == pytest.approx(expected[target])
        losses[target] = report.train[0]
    assert len(set(losses.values())) == 3 and min(losses.values()) > 0


@pytest.mark.parametrize("state", [True, False])
def test_whether_the_field_sees_the_state(state):
    field = CorrectionField(3, (16,), state=state)
    torch.nn.init.normal_(field.net[-1].weight)
    context, t = torch.randn(9, 3), torch.full((9,), 0.5)
    assert torch.equal(field(torch.zeros(9), t, context), field(torch.ones(9), t, context)) == (not state)


# -- the flows -----------------------------------------------------------------------------------
def test_a_memoryless_flow_moves_at_the_recorded_speed():
    """All weights move at 1 a step, and at 3 from step 10 on: known at every time."""
    speed = np.where(np.arange(20) < 10, 1.0, 3.0)
    way = np.concatenate([[0.0], np.cumsum(speed)])[None, :, None]
    data = Trajectories(rng.normal(size=(12, 1, 3)) + way)
    training = Training(rate=2e-2, batch=12, epochs=150, patience=150, schedule="one-cycle")
    model = MemorylessFlow(10, hidden=(16,), samples=500, training=training).fit(data)
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
    options = FlowOptions(path=IncrementPath(span=span), training=Training(batch=40, epochs=1))
    flow = VectorFlow(4, options)
    flow.fit(data, data)
    report = FitReport()
    flow.correct(data, data, report)
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
    flow = CoordinateFlow(20, FlowOptions())
    flow.optimizer_state = True
    known = -np.polyfit(np.arange(20), 0.5 * np.log(np.square(g[:, :20]).sum(axis=2)).T, 1)[0]
    np.testing.assert_allclose(flow._rates(data.prefix(20)), np.maximum(known, 1e-4), rtol=1e-6)
    flow.optimizer_state = False
    assert np.abs(flow._rates(data.prefix(20)) - known).max() > 0.01


def test_residuals_weigh_as_the_errors_of_the_weights():
    """Whatever unit a run has: the weighted mean square of y is the error of the affine forecasts."""
    data = Trajectories(np.cumsum(rng.normal(size=(12, 31, 4)) * np.exp(rng.normal(size=(12, 1, 1))), axis=1))
    flow = CoordinateFlow(10, FlowOptions(Conditioning(scale="run", ridges=(1.0,)), network=None))
    errors, found = flow.fit(data, data), flow._residuals(data)
    units = units_of(data.weights[:, :11], "run")
    weighted = (found.weight[..., None] * found.y[..., 1:].square()).mean().item()
    assert weighted * np.square(units).mean() == pytest.approx(errors.mean(), rel=1e-4)
    spread = found.context.flatten(0, 1).std(dim=0)
    assert ((spread > 0.7) & (spread < 1.05) | (spread == 0)).all()  # clamped, and constants stay constants


# -- the interface -------------------------------------------------------------------------------
@pytest.mark.parametrize(("gain", "always", "kept"), [(1.5, False, False), (3.0, False, True), (1.5, True, True)])
def test_a_flow_is_one_class_and_its_network_has_to_gain_two_standard_errors(monkeypatch, gain, always, kept):
    noise = rng.normal(size=8)
    noise = (noise - noise.mean()) / noise.std(ddof=1) * np.sqrt(8)  # the mean has a standard error of one

    class Toy(Flow):
        view = "toy"
        size, notes = 5, {"toys": 1}

        def fit(self, train, held):
            return 20 + noise

        def correct(self, train, held, report):
            self.network = torch.nn.Linear(1, 1)

        def errors(self, held):
            return np.full(8, 20 - gain)

        def forecast(self, prefix, horizon, solver):
            return np.repeat(prefix.weights[:, -1:], horizon, axis=1)

    monkeypatch.setitem(FLOWS, "toy", Toy)
    data = Trajectories(rng.normal(size=(8, 12, 2)))
    model = GradientFlowMatching(4, view="toy", network=Network(always=always)).fit(data, data)
    assert (model.flow.network is not None) == kept == model.report.notes["corrected"]
    assert model.report.notes["toys"] == 1 and model.report.parameters == 5
    assert model.forecast(data.prefix(4), 3).shape == (8, 3, 2)
    assert model.with_damping("none").flow is model.flow  # a flow without damping is its own
