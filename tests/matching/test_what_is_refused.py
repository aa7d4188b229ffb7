"""What the flows cannot know is refused with one sentence, or makes no difference."""

import numpy as np
import pytest

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasting.training import Training
from gfm.matching import AffineFlow, Conditioning, GradientFlowMatching, Solver
from gfm.matching.damping import decline

SHORT = Training(epochs=1)
AWARE = Conditioning("prefix", "none", True)
BLIND = Conditioning("prefix", "none", False)


def adam(runs=12, steps=24, every=1, **meta):
    """Adam on quadratics of two weights, with its averages."""
    rng = np.random.default_rng(0)
    curvature, aim = rng.uniform(0.5, 2, size=(2, runs, 1, 2))
    w, m, v = rng.normal(size=(runs, 2)), np.zeros((runs, 2)), np.zeros((runs, 2))
    states = [np.stack([w, m, v])]
    for k in range(1, steps * every + 1):
        g = curvature[:, 0] * (w - aim[:, 0])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.02 * (m / (1 - 0.9**k)) / np.sqrt(v / (1 - 0.999**k))
        states.append(np.stack([w, m, v]))
    w, m, v = np.stack(states[::every], axis=2)
    told = {"optimizer": "Adam", "lr": 0.02, **meta}
    meta = {name: value for name, value in told.items() if value != "missing"}
    return Trajectories(w, every * np.arange(steps + 1), None, meta, {"momentum": m, "second": v})


def flow(conditioning, **options):
    return GradientFlowMatching(6, view="coordinate", conditioning=conditioning, training=SHORT, **options)


@pytest.mark.parametrize("lr", ["missing", None, "0.1", float("nan"), 0])
def test_an_aware_flow_needs_a_learning_rate(lr):
    for model in (flow(AWARE), AffineFlow(6, view="coordinate", conditioning=AWARE)):
        with pytest.raises(InputError, match="lr"):
            model.fit(adam(lr=lr))
    flow(BLIND).fit(adam(lr=lr))  # for a blind one it cancels


def test_without_a_known_optimizer_the_open_choice_is_blind():
    for meta in ({"optimizer": "Lion"}, {"optimizer": "missing"}, {"options": {"amsgrad": True}}, {"lr": "missing"}):
        model = flow(Conditioning("prefix", "none", "auto")).fit(adam(**meta))
        assert model.fitted.notes["optimizer_state"] is False
        with pytest.raises(InputError):
            flow(AWARE).fit(adam(**meta))


@pytest.mark.parametrize("schedule", ["cosine", [], 0.5, {"a": 1}, [[1.0]], [float("nan")] * 20, [-1.0, 1.0]])
def test_a_schedule_is_one_factor_for_each_step(schedule):
    with pytest.raises(InputError, match="schedule"):
        flow(BLIND).fit(adam(schedule=schedule))


def test_a_flow_fitted_under_a_schedule_asks_the_prefix_for_its_own():
    data = adam(schedule=list(np.linspace(1, 0.5, 24)))
    model = flow(BLIND).fit(data)
    model.forecast(data.prefix(6))
    with pytest.raises(InputError, match="schedule"):
        model.forecast(data.weights[:, :7])


def test_states_at_uneven_distances_are_refused():
    data = adam(steps=24)
    uneven = Trajectories(data.weights[:, [*range(8), 10, 15, 20]], [*range(8), 10, 15, 20])
    with pytest.raises(InputError, match="uneven"):
        flow(BLIND).fit(uneven)


@pytest.mark.parametrize("kind", ["gaps", "optimizer"])
def test_an_aware_flow_refuses_a_prefix_of_another_kind(kind):
    model, affine = flow(AWARE).fit(adam()), AffineFlow(6, view="coordinate", conditioning=AWARE).fit(adam())
    other = adam(every=4) if kind == "gaps" else adam(optimizer="RMSprop")
    for fitted in (model, affine):
        with pytest.raises(InputError, match="differs"):
            fitted.forecast(other.prefix(6))


@pytest.mark.parametrize("steps", [8, 9, 24])
def test_single_precision_takes_short_and_resting_runs(steps):
    model = flow(AWARE, solver=Solver(dtype="float32")).fit(adam(steps=steps))
    assert np.isfinite(model.forecast(adam(steps=steps).prefix(6))).all()
    still = Trajectories(np.ones((8, steps + 1, 3)))
    model = flow(BLIND, solver=Solver(dtype="float32")).fit(still)
    np.testing.assert_array_equal(model.forecast(still.prefix(6)), still.weights[:, 7:])


@pytest.mark.parametrize(("group", "options"), [
    (Training, {"rate": float("nan")}), (Training, {"batch": 2.5}), (Training, {"decay": -1}),
    (Training, {"seed": None}), (Solver, {"memory": float("nan")}), (Solver, {"memory": "1G"}),
    (AffineFlow, {"ridges": ("a",)}),
])
def test_options_that_are_no_numbers(group, options):
    with pytest.raises(InputError, match=next(iter(options))):
        group(**options)


def test_a_step_of_length_zero_says_nothing_about_the_decline():
    squares = np.exp(-0.2 * np.arange(20))[None].repeat(3, axis=0)
    squares[1, 0], squares[2, -1] = 0, 0
    np.testing.assert_allclose(decline(squares), 0.1)
    assert (decline(np.zeros((2, 5))) == 1e-4).all()
