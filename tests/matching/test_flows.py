"""The flows: closed forms where there are any, the solver's order, what each view can do."""

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.data.least_squares import least_squares, shared_least_squares
from gfm.errors import InputError, NumericalError
from gfm.forecasters import OLSEnds
from gfm.forecasting.training import Training
from gfm.matching import (
    AffineField,
    AffineFlow,
    AffineVectorField,
    Conditioning,
    Frame,
    GradientFlowMatching,
    IncrementPath,
    Network,
    Solver,
    VectorFlow,
    integrate,
)
from gfm.matching.selection import choose, clearly_better

rng = np.random.default_rng(0)


def error(model, data, observed=20):
    train, val, test = data.split(100, 50, 50)
    forecast = model.fit(train, validation=val).forecast(test.prefix(observed))
    return np.square(forecast - test.weights[:, observed + 1 :]).mean(axis=(0, 2))


# -- parts ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", ["none", "run"])
def test_a_frame_can_be_left_as_it_was_entered(scale):
    weights = rng.normal(size=(4, 12, 3))
    frame = Frame.of(weights[:, :6], scale)
    np.testing.assert_allclose(frame.outward(frame.inward(weights)), weights, atol=1e-14)
    assert np.abs(frame.inward(weights)[:, 5]).max() == 0  # the future starts at the origin
    assert frame.ends.shape == (12, 3) and frame.prefix.shape == (12, 7)


def test_a_run_that_never_moved_has_a_frame():
    frame = Frame.of(np.ones((1, 4, 2)), "run")
    assert np.isfinite(frame.prefix).all()


def test_euler_steps_of_the_field_give_the_states_of_the_closed_form():
    """The field that is integrated and the states that were fitted are the same flow."""
    ends, context = rng.normal(size=(30, 3)), rng.normal(size=(30, 5))
    later = rng.normal(size=(30, 9))
    flow = AffineField.restoring(ends, later).driven(ends, context, later, np.array([0.1]))[0]
    x, drives = np.zeros(30), flow.drives(context)
    for k in range(9):
        x = x - flow.kappa * (x - ends @ flow.aim) + drives[:, k]
        np.testing.assert_allclose(x, flow.states(ends, context)[:, k + 1], atol=1e-12)


def test_restoring_finds_rate_and_aim():
    ends = rng.normal(size=(50, 3))
    aim = np.array([2.0, -1.0, 0.5])
    later = np.outer(ends @ aim, 1 - 0.97 ** np.arange(1, 41))
    flow = AffineField.restoring(ends, later)
    assert flow.kappa == pytest.approx(0.03, rel=1e-6)
    np.testing.assert_allclose(flow.aim, aim, rtol=1e-6)


def test_ridges_run_from_least_squares_to_no_drive():
    ends, context = rng.normal(size=(80, 3)), rng.normal(size=(80, 6))
    later = rng.normal(size=(80, 4))
    base = AffineField.restoring(ends, later)
    exact, soft, none = base.driven(ends, context, later, np.array([0.0, 1.0, np.inf]))
    rest = later - base.states(ends, context)[:, 1:]
    np.testing.assert_allclose(exact.drive, np.linalg.lstsq(context, rest, rcond=None)[0], atol=1e-12)
    assert np.linalg.norm(soft.drive) < np.linalg.norm(exact.drive)
    assert none.drive is None


def test_the_affine_vector_field_of_gradient_descent_is_its_gradient_field():
    made = shared_least_squares(3, "GD", 1, runs=20)
    field = AffineVectorField.match(made.weights)
    gram = made.inputs[0].T @ made.inputs[0]
    np.testing.assert_allclose(field.matrix, -made.rates[0] * gram, atol=1e-10)


def test_integrate_has_the_order_of_its_scheme():
    start = torch.ones(1, dtype=torch.float64)
    exact = float(np.exp(-1.0))

    def ends_at(method, substeps):
        return float(integrate(lambda t, x: -0.1 * x, start, 10, Solver(method, substeps))[-1])

    for method, order in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        coarse, fine = (abs(ends_at(method, n) - exact) for n in (1, 2))
        assert np.log2(coarse / fine) == pytest.approx(order, abs=0.25)
    assert ends_at("euler", 1) == pytest.approx(0.9**10)  # one step of the flow = one of descent
    with pytest.raises(InputError):
        Solver("dopri5")
    with pytest.raises(NumericalError):
        integrate(lambda t, x: 1e200 * x, start, 9)


def test_choice_prefers_the_simpler_within_a_standard_error():
    base = rng.normal(size=50) ** 2
    assert clearly_better(base - 0.1, base)  # better on every run
    noisy = base + np.tile([1.0, -1.0], 25) - 0.01  # better by 0.01, with a standard error of 0.14
    assert not clearly_better(noisy, base)
    for more, better in ((0.01, True), (-0.01, False)):  # gains 0 and 2, and this more, have the standard error 1
        assert clearly_better(np.array([2.0, 0.0]) - more, np.array([2.0, 2.0])) == better
    assert clearly_better(base, np.r_[base[1:], np.inf]) and clearly_better(base, np.full(50, np.nan))
    assert not clearly_better(np.r_[base[1:], np.inf], np.full(50, np.nan))  # neither can be used
    assert choose([base, noisy]) == 0
    assert choose([base, base - 0.1]) == 1
    assert choose([base + 1, base, base - 1e-9 * rng.uniform(size=50)]) == 2


# -- the model -----------------------------------------------------------------------------------
def test_full_gradients_are_continued_exactly():
    for dimension in (1, 3):
        data = Trajectories(least_squares(dimension, "GD", 1).weights)
        assert error(AffineFlow(), data).max() < 1e-12


def test_on_mini_batches_it_is_level_with_the_best_regression():
    data = Trajectories(least_squares(3, "SGD", 1).weights)
    ours, ends = error(AffineFlow(), data), error(OLSEnds(20), data)
    assert ours[-1] < 1.05 * ends[-1]


def test_one_shared_task_is_seen_and_used():
    data = Trajectories(shared_least_squares(3, "SGD", 1).weights)
    model = AffineFlow()
    ours = error(model, data)
    assert isinstance(model.flow, VectorFlow)
    assert ours[-1] < 0.05 * error(AffineFlow(view="coordinate"), data)[-1]
    with pytest.raises(InputError, match="parameters"):
        model.forecast(np.zeros((1, 21, 4)))


def cubic(runs=200, steps=60):
    """dx/dt = -x^3, whose future is no affine function of anything."""
    states = [np.random.default_rng(1).uniform(-1.5, 1.5, size=(runs, 1, 2))]
    for _ in range(steps):
        states.append(states[-1] - 0.05 * states[-1] ** 3)
    return Trajectories(np.concatenate(states, axis=1))


@pytest.mark.parametrize("view", ["coordinate", "vector"])
@pytest.mark.no_cover
def test_the_network_learns_what_the_affine_part_cannot(view):
    training = Training(rate=5e-3, batch=20, epochs=60, patience=60)
    few = Conditioning("ends", "none")  # two observed states: with all seven even a linear map does well
    affine = error(AffineFlow(6, view=view, conditioning=few), cubic(), 6)
    full = error(GradientFlowMatching(6, view=view, conditioning=few, training=training), cubic(), 6)
    assert full.mean() < 0.2 * affine.mean()


def test_the_report_tells_what_was_chosen_and_what_it_cost():
    data = Trajectories(least_squares(1, "SGD", 1).weights)
    model = GradientFlowMatching(view="coordinate", training=Training(epochs=5, patience=5))
    error(model, data)
    report = model.report
    assert report.epochs == 5 == len(report.train) == len(report.validation)
    assert report.seconds > 0 and report.parameters == sum(p.numel() for p in model.flow.network.parameters())
    assert report.notes["view"] == "coordinate" and report.notes["error"] <= report.notes["linear_error"]
    assert {"scale", "context", "optimizer_state", "ridge", "tried"} <= set(report.notes)
    affine = AffineFlow()
    error(affine, data)
    assert {"view", "scale", "context", "optimizer_state", "ridge", "error", "tried"} <= set(affine.report.notes)
    assert affine.report.epochs == 0


def test_single_precision_and_finer_steps_change_little():
    data = Trajectories(least_squares(3, "SGD", 1).weights)
    base = error(AffineFlow(view="coordinate"), data)[-1]
    for solver in (Solver(dtype="float32"), Solver("rk4"), Solver(substeps=2)):
        other = error(AffineFlow(view="coordinate", solver=solver), data)[-1]
        assert other == pytest.approx(base, rel=0.02)


def test_without_a_validation_set_some_training_runs_serve():
    data = Trajectories(least_squares(1, "GD", 1).weights)
    train, _, test = data.split(100, 50, 50)
    forecast = AffineFlow().fit(train).forecast(test.prefix(20))
    assert np.square(forecast - test.weights[:, 21:]).max() < 1e-12


@pytest.mark.parametrize(
    ("group", "options"),
    [
        (GradientFlowMatching, {"view": "sideways"}),
        (AffineFlow, {"view": "sideways"}),
        (AffineFlow, {"damping": "much"}),
        (AffineFlow, {"ridges": ()}),
        (AffineFlow, {"ridges": (-1.0,)}),
        (AffineFlow, {"ridges": (1.0, float("nan"))}),
        (AffineFlow, {"ridges": 1.0}),
        (AffineFlow, {"products": "no"}),
        (AffineFlow, {"conditioning": {}}),
        (AffineFlow, {"solver": "euler"}),
        (Conditioning, {"context": "future"}),
        (Conditioning, {"scale": "big"}),
        (Conditioning, {"optimizer_state": "maybe"}),
        (GradientFlowMatching, {"network": Network}),
        (GradientFlowMatching, {"network": None}),
        (GradientFlowMatching, {"training": {"epochs": 3}}),
        (GradientFlowMatching, {"conditioning": {}}),
        (GradientFlowMatching, {"path": None}),
        (IncrementPath, {"noise": float("nan")}),
        (IncrementPath, {"span": 2.5}),
        (Network, {"times": 2.5}),
        (Network, {"times": 0}),
        (Network, {"knots": 0}),
        (Network, {"knots": 1.5}),
        (Network, {"state": "moon"}),
        (Network, {"hidden": 8}),
        (Network, {"hidden": (8, 0)}),
        (Solver, {"method": "dopri5"}),
        (Solver, {"substeps": 0}),
        (Solver, {"dtype": "float16"}),
        (Solver, {"memory": 256}),
    ],
)
def test_bad_options_are_refused_when_they_are_given(group, options):
    with pytest.raises(InputError, match=next(iter(options))):
        group(**options)


@pytest.mark.parametrize("spans", [(1, 8), (8, 1)])
def test_of_several_paths_the_held_out_forecasts_choose(spans):
    """Without noise the velocity over one step is exact, and that over eight is not."""
    rate, start = rng.uniform(0.05, 0.2, (20, 1, 3)), rng.normal(size=(20, 1, 3))
    data = Trajectories(start * (1 - rate) ** np.arange(40)[:, None])
    paths = tuple(IncrementPath(span=span) for span in spans)
    model = GradientFlowMatching(4, view="coordinate", path=paths, training=Training(epochs=1))
    model.fit(data[:14], data[14:])
    assert model.flow.options.path.span == model.report.notes["span"] == 1
    assert [f"span {span}" in model.report.notes["tried"] for span in spans] == [True, True]


def test_a_path_that_is_none():
    for path in ((), (IncrementPath(), 3), "linear"):
        with pytest.raises(InputError, match="path must be an IncrementPath"):
            GradientFlowMatching(4, path=path)


def test_a_second_fit_does_not_remember_the_first():
    """The span of the path is cut to short runs for their fit alone."""
    short, long = (Trajectories(np.cumsum(rng.normal(size=(8, steps, 2)), axis=1)) for steps in (8, 60))
    options = {"view": "coordinate", "training": Training(epochs=2), "path": IncrementPath(span=10)}
    used, fresh = (GradientFlowMatching(4, **options) for _ in range(2))
    used.fit(short)
    assert used.flow.options.path.span == 1
    used.fit(long)
    assert used.paths[0].span == 10
    prefix = long.prefix(4)
    assert used.flow.options.path.span == fresh.fit(long).flow.options.path.span == 10
    np.testing.assert_array_equal(used.forecast(prefix), fresh.forecast(prefix))


def test_too_many_weights_for_the_vector_view():
    with pytest.raises(InputError, match="64"):
        GradientFlowMatching(view="vector").fit(Trajectories(np.zeros((4, 30, 65))))
