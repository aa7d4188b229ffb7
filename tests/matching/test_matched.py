"""Gradient flow matching: the linear start, what the network adds, and the optimizer inside the flow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.data.least_squares import least_squares
from gfm.errors import InputError
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, FlowOptions, GradientFlowMatching, IncrementPath, MatchedFlow, Network, Solver
from gfm.matching.field import STATES, NetworkField
from gfm.matching.linear_start import linear_starts

LINEAR = Network(hidden=(), state="linear")
SHORT = Training(epochs=1, batch=64)


def model(n, **options):
    return GradientFlowMatching(n, **{"view": "coordinate", "training": SHORT, **options})


def start(data, network=LINEAR, n=10, **conditioning):
    """A flow at its linear start, and the course of the data in it."""
    flow = MatchedFlow(n, FlowOptions(Conditioning(**{"scale": "run", "optimizer_state": False, **conditioning}),
                                      network=network, training=SHORT))
    options = flow.options.conditioning
    flow._start(data, data, options.optimizer_state, options.scale, options.context)
    return flow, flow.units.course(data)


def relative(forecast, data):
    """Squared error at the last step, relative to that of holding the last observed state."""
    held = np.square(data.weights[:, -forecast.shape[1] - 1] - data.final).mean()
    return np.square(forecast[:, -1] - data.final).mean() / held


# -- the linear start ----------------------------------------------------------------------------
def linear_runs(runs=40, n=5, horizon=40, knots=4, parameters=3):
    """Exact Euler steps of a field linear in the context, with coefficients piecewise linear in time."""
    rng = np.random.default_rng(0)
    states = list(np.cumsum(rng.normal(size=(n + 1, runs, parameters)), axis=0))
    places = np.linspace(0, horizon, knots)
    kappa, b = rng.uniform(0.01, 0.1, size=knots), 0.05 * rng.normal(size=(n + 2, knots))
    context = np.stack([*(state - states[-1] for state in states[:-1]), states[-1], np.ones((runs, parameters))])
    for k in range(horizon):
        rate, drive = np.interp(k, places, kappa), [np.interp(k, places, row) for row in b]
        states.append(states[-1] - rate * (states[-1] - states[n]) + np.tensordot(drive, context, 1))
    return Trajectories(np.stack(states, axis=1))


@pytest.mark.parametrize("scale", ["none", "run"])
def test_the_linear_start_continues_a_piecewise_linear_field_exactly(scale):
    train, held, test = linear_runs().split(20, 10, 10)
    network = replace(LINEAR, knots=4)
    fitted = model(5, network=network, conditioning=Conditioning(scale=scale)).fit(train, held)
    np.testing.assert_allclose(fitted.forecast(test.prefix(5)), test.weights[:, 6:], rtol=0, atol=1e-6)
    fewer = model(5, network=replace(network, knots=2), conditioning=Conditioning(scale=scale)).fit(train, held)
    assert relative(fewer.forecast(test.prefix(5)), test) > 1e-6


@pytest.mark.parametrize("state", STATES)
@pytest.mark.no_cover
def test_least_squares_descents_are_continued(state):
    train, held, test = Trajectories(least_squares(3, "GD", 1).weights).split(100, 50, 50)
    fitted = model(20, network=Network(hidden=(), state=state)).fit(train, held)
    assert np.square(fitted.forecast(test.prefix(20))[:, -1] - test.final).mean() < 1e-6


def momentum(runs=60, parameters=4, steps=40):
    """Heavy balls on noisy quadratics, each weight with its own curvature and optimum."""
    rng = np.random.default_rng(0)
    w, optimum = rng.normal(size=(2, runs, parameters))
    curvature, b = np.exp(0.3 * rng.normal(size=(runs, parameters))), np.zeros((runs, parameters))
    states, buffers = [w], [b]
    for _ in range(steps):
        b = 0.8 * b + curvature * (w - optimum) + 0.3 * rng.normal(size=w.shape)
        w = w - 0.01 * b
        states.append(w)
        buffers.append(b)
    meta = {"optimizer": "momentum", "lr": 0.01, "options": {"momentum": 0.8}}
    return Trajectories(np.stack(states, axis=1), meta=meta, states={"momentum": np.stack(buffers, axis=1)})


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("stride", [1, 4])
def test_without_a_ridge_the_linear_start_minimises_the_loss_of_flow_matching(aware, stride):
    """The gradient of the mean squared difference of velocities vanishes there, and only there."""
    n = 8 // stride
    flow, course = start(momentum().every(stride), replace(LINEAR, knots=3), n, optimizer_state=aware)
    context = flow._standardised(course.context)

    def slope():
        total, coefficients = 0.0, flow.network.coefficients(context)
        for k in range(n, n + flow.horizon):
            z, share = course.z[:, k : k + 1], torch.full((len(course.z), 1), (k - n) / flow.horizon).double()
            g, q = flow.network.values(flow.network.between(coefficients, share), z[..., 0])
            velocity = course.velocity(z, g, q, course.steps[:, k : k + 1], stride)[..., 0]
            moved = (course.z[:, k + 1, 0] - course.z[:, k, 0]) / stride
            total = total + (course.weight * (velocity[:, 0] - moved).square()).mean()
        weight, bias = torch.autograd.grad(total, flow.network.linear.parameters())
        bias = bias.view(3, 2)
        return torch.cat([weight.view(3, 2, -1)[:, 1].flatten(), bias.flatten()]).norm().item()

    flow.network.start(*linear_starts(flow.network, course, flow._standardised(course.context), flow.n, 1)[-1])
    least = slope()
    with torch.no_grad():
        flow.network.linear.bias.mul_(1.1)
    assert least < 1e-6 * slope()


# -- the network ---------------------------------------------------------------------------------
@pytest.mark.no_cover
def test_the_network_learns_what_the_linear_layer_cannot():
    """dx/dt = -x^3, whose future is no affine function of two states."""
    states = [np.random.default_rng(1).uniform(-1.5, 1.5, size=(200, 1, 2))]
    for _ in range(60):
        states.append(states[-1] - 0.05 * states[-1] ** 3)
    train, held, test = Trajectories(np.concatenate(states, axis=1)).split(100, 50, 50)
    options = {"conditioning": Conditioning("ends", "none"), "training": Training(5e-3, 20, 40, 40)}
    errors = [relative(model(6, network=Network(hidden=h), **options).fit(train, held).forecast(test.prefix(6)), test)
              for h in ((), (64, 64))]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.parametrize("state", STATES)
def test_how_the_gradient_depends_on_the_place(state):
    field = NetworkField(5, (8,), 3, True, state, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for parameter in field.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    coefficients = field.coefficients(torch.randn(200, 5, dtype=torch.float64, generator=generator))
    share = torch.rand(200, 4, dtype=torch.float64, generator=generator)
    between = field.between(coefficients, share)
    (here, q), (there, _) = (field.values(between, torch.full((200, 4), x).double()) for x in (1.0, 3.0))
    kappa = (there - here) / 2
    assert (q > 0).all()
    if state == "none":
        assert (kappa == 0).all()
    elif state == "restoring":
        assert (kappa > 0).all() and kappa.std() > 0.1
    else:
        assert (kappa > 0).any() and (kappa < 0).any()
    at = field.between(coefficients, torch.tensor([[0.0, 0.25, 1.0, 1.5]]).double().expand(200, 4))
    torch.testing.assert_close(at[:, 1], (coefficients[:, 0] + coefficients[:, 1]) / 2)
    for place, knot in ((0, 0), (2, 2), (3, 2)):
        torch.testing.assert_close(at[:, place], coefficients[:, knot])


def test_without_the_state_a_displacement_stays_as_it_is():
    """Of two courses of one weight, a unit apart: the distance is kept, or shrinks under attraction."""
    data = Trajectories(least_squares(1, "SGD", 1).weights[:40])
    apart = {}
    for state in ("none", "restoring"):
        flow, course = start(data, Network(hidden=(), state=state))
        there = replace(course, z=course.z + 1)
        with torch.no_grad():
            if state == "restoring":
                flow.network.linear.bias.view(-1, 2)[:, 0] = 0.0  # kappa = log 2
            apart[state] = np.subtract(*(flow._carry(c, 50, Solver()) for c in (there, course)))
    np.testing.assert_allclose(apart["none"], 1.0)
    steps = np.arange(1, 51)  # the rate is a tenth per step, one over the observed steps
    np.testing.assert_allclose(apart["restoring"], np.tile((1 - 0.1 * np.log(2)) ** steps, (40, 1)))


def test_a_flow_that_explains_every_step_has_no_loss():
    flow, course = start(linear_runs(), replace(LINEAR, knots=4), 5)
    unit = flow._units(course, flow._standardised(course.context), course.weight[:, None], 1.0)
    speed = course.z.diff(dim=1).square().mean().sqrt()
    assert unit[0] < 1e-6 * speed


@pytest.mark.parametrize(("span", "stride"), [(1, 1), (4, 1), (2, 4)])
def test_the_loss_is_measured_by_what_the_start_leaves(span, stride):
    """The first epoch's loss is one for each of weights and averages, up to the draws of the places."""
    data = momentum(runs=100).every(stride)
    data.meta["schedule"] = (0.9 ** np.arange(41)).tolist()  # whatever the field: each step has its own number
    options = FlowOptions(Conditioning("ends", "run", True), network=Network(), path=IncrementPath(span=span),
                          training=Training(batch=1000, epochs=1))
    report = FitReport()
    MatchedFlow(8 // stride, options).fit(data, data, report)
    assert report.train[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("squares", [False, True])
def test_times_that_all_share_give_the_same_coefficients(squares):
    field = NetworkField(3, (4,), 5, squares)
    coefficients = torch.randn(7, 5, field.width, dtype=torch.float64)
    share = torch.tensor([[-0.1, 0.0, 0.33, 0.25, 1.0, 1.7]], dtype=torch.float64)
    assert torch.equal(field.between(coefficients, share), field.between(coefficients, share.expand(7, -1)))


def test_the_field_at_a_place_is_the_step_that_a_forecast_takes_there():
    data = momentum()
    flow = model(10, conditioning=Conditioning("ends", "run", False)).fit(data)
    prefix = data.prefix(10)
    forecast = flow.forecast(prefix)
    path = np.concatenate([prefix.weights[:, -1:], forecast], axis=1)
    field = flow.flow.velocities(prefix, path[:, :-1], np.arange(forecast.shape[1]))
    np.testing.assert_allclose(field, np.diff(path, axis=1), rtol=1e-6, atol=1e-12)


def test_weights_alone_do_not_tell_the_field_of_a_flow_with_averages():
    data = momentum()
    flow = model(10, conditioning=Conditioning("ends", "run", True)).fit(data)
    with pytest.raises(InputError, match="Weights alone"):
        flow.flow.velocities(data.prefix(10), data.weights[:, :1], np.zeros(1))
