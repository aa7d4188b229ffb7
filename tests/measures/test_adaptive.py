"""Measures of adaptive runs, on series made by hand whose answers are known, and on one small run."""

import numpy as np
import pytest

from gfm.central import Run, Series
from gfm.errors import InputError
from gfm.experiments.central.continued_run import ContinuedRun
from gfm.experiments.central.flow_run import FlowRun
from gfm.experiments.central.stationary_points import StationaryPoints
from gfm.experiments.central.stored_weights import closed_form_along, penalty_shares
from gfm.measures import adaptive as measures
from gfm.measures.comparison import compare
from gfm.measures.flow import furthest, prediction_error
from gfm.store import Context


def made(steps=400, **central):
    """A run at the edge throughout: the optimizer's top eigenvalue is 2.1 + 0.2 sin, its nu swings about 1."""
    t = np.arange(steps + 1)
    swing = np.sin(2 * np.pi * t / 20)
    discrete = {
        "loss": np.exp(-t / 100), "eigenvalues": (2.1 + 0.2 * swing)[:, None], "nu_mean": 1 + 0.5 * swing,
        "effective_step": 0.5 + 0.1 * swing, "gradient2_at": np.stack([2 * t % 4, 3 + 0 * t], 1) + 0.0,
        "nu_at": np.stack([1.0 + 0 * t, 3.0 + 0 * t], 1),
    }
    flow = {
        "loss": np.exp(-(t - 5) / 100), "predicted_loss": np.exp(-(t - 5) / 100),
        "eigenvalues": np.full((steps + 1, 1), 2.0),
        "nu_mean": np.full(steps + 1, 1.1), "effective_step": np.full(steps + 1, 0.4),
        "gradient2_at": np.full((steps + 1, 2), 0.3), "predicted_gradient2_at": np.full((steps + 1, 2), 3.0),
        "nu_at": np.full((steps + 1, 2), 1.5),
    } | central
    return Run({"discrete": Series(discrete), "central": Series(flow)}, {}, {"threshold": 2.0}, {})


def test_levels_and_crossings():
    run = made()
    assert measures.level_offset(compare(run, 20)) == pytest.approx(0.05, abs=1e-3)
    assert measures.upward_crossings(run) == 20
    assert measures.arrivals(run) == [0]
    assert measures.flow_sharpness(run, "central") == pytest.approx(np.full(401, 5.0))


def test_errors_of_means():
    compared = compare(made(), 20)
    assert prediction_error(compared, "nu_mean", predicted=False) == pytest.approx(0.1, rel=1e-3)
    assert measures.step_excess(compared) == pytest.approx(0.25, rel=1e-3)
    assert measures.loss_lag(compared) == pytest.approx(5, abs=1e-6)  # smoothing both shifts neither
    assert measures.loss_fall(compared) == pytest.approx(0.01, rel=0.01)


def test_a_lag_is_measured_while_the_predicted_loss_falls():
    """Until step 200 the flow is 5 steps late; then both losses rise slowly and apart, which is no lag."""
    t = np.arange(601)
    run = made(600)
    run["discrete"]["loss"] = np.where(t < 200, np.exp(-t / 100), np.exp(-2 + (t - 200) / 1000))
    run["central"]["predicted_loss"] = np.where(t < 200, np.exp(-(t - 5) / 100), np.exp(-1.95 + (t - 200) / 1000))
    assert measures.loss_lag(compare(run, 20)) == pytest.approx(5, abs=0.1)


def test_an_average_is_never_one_single_step():
    compared = compare(made(), 20)
    lifted = np.exp(20**2 / 2 / 100**2)
    assert measures.averaged_at(compared, "loss", 300) == pytest.approx(lifted * np.exp(-3.0), rel=1e-2)
    assert np.isnan(measures.averaged_at(compared, "loss", 361))  # within two windows of the end
    assert np.isnan(measures.averaged_at(compare(made(60), 20), "loss", 20))


def test_single_weights():
    compared = compare(made(), 20)
    # The first weight's squared gradient averages 1 and is predicted as 3, the second's is 3 and right.
    assert measures.coordinate_error(compared, "gradient2") == pytest.approx(1.0, rel=1e-2)
    assert measures.coordinate_error(compared, "nu") == pytest.approx(0.5, rel=1e-6)
    assert measures.oscillation_share(compared) == pytest.approx(0.9)


def test_what_nu_and_its_flow_share_is_no_swing():
    """Both squared gradients swing by a factor; nu follows the flow's nu, which falls as training goes on."""
    t = np.arange(401)[:, None]
    falling = np.exp(-t / 50) * np.ones((1, 2))
    run = made(nu_at=1.5 * falling, predicted_gradient2_at=3.0 * falling)
    swing = np.sin(2 * np.pi * t / 20)
    run["discrete"]["gradient2_at"] = falling * (1 + 0.8 * swing)
    run["discrete"]["nu_at"] = falling * (1 + 0.2 * swing)
    assert measures.spread_ratio(compare(run, 20)) == pytest.approx(0.25, rel=1e-3)


def test_a_run_without_edge_measures_nothing():
    compared = compare(made(eigenvalues=np.ones((401, 1))), 10)
    for value in (measures.level_offset(compared), prediction_error(compared, "nu_mean", predicted=False),
                  measures.oscillation_share(compared), measures.spread_ratio(compared),
                  measures.step_excess(compared), measures.loss_lag(compared)):
        assert np.isnan(value)
    assert measures.arrivals(compared.run) == []


def test_the_furthest_ratio_is_by_factor():
    assert furthest(np.array([0.5, 1.6, 1.0])) == 0.5
    assert np.isnan(furthest(np.array([])))


def test_the_step_at_a_loss():
    run = made()
    assert measures.at_loss(run, np.exp(-1.0)) in (105, 106)
    with pytest.raises(InputError, match="never comes down"):
        measures.at_loss(run, 1e-9)


SMALL = {"n": 40, "hidden": (4,), "activation": "tanh", "optimizer": "scalar_rmsprop", "steps": 6, "lr": 0.02}


def test_a_continued_run_goes_on_where_one_run_would_be():
    """With the same settings before and after, the parts join to one run."""
    whole = FlowRun(**{**SMALL, "steps": 10}, processes=("discrete",)).compute(Context())
    continued = ContinuedRun(**SMALL, processes=("discrete",), start_steps=4, start_lr=0.02, start_beta2=0.99)
    part = continued.compute(Context())
    for name in ("loss", "nu_mean", "effective_step"):
        assert part.arrays[f"discrete/{name}"] == pytest.approx(whole.arrays[f"discrete/{name}"][4:], rel=1e-10)
    with pytest.raises(InputError, match="scalar_rmsprop"):
        ContinuedRun(**{**SMALL, "optimizer": "gd"}).compute(Context())


def test_the_closed_form_is_checked_only_where_it_holds():
    experiment = FlowRun(**SMALL)
    w = experiment.problem(Context()).w0.numpy()
    found = closed_form_along(experiment, w[None], np.array([0.5, 5.0]), np.array([0.0, 1.0]))
    assert found["by_memory"][0] == pytest.approx([found["normalised"][0], found["descent"][0]])
    assert found["by_rate"][0][0] <= found["by_rate"][0][1]
    with pytest.raises(InputError, match="Scalar RMSProp"):
        closed_form_along(FlowRun(n=40, hidden=(4,), optimizer="gd"), w[None], np.ones(1), np.ones(1))


def test_stationary_points_need_a_run_that_kept_what_they_use():
    with pytest.raises(InputError, match="keeps weights"):
        StationaryPoints(n=40, hidden=(4,), optimizer="rmsprop").compute(Context())


def test_at_an_equal_way_a_flow_that_is_only_late_has_no_error():
    """The optimizer takes steps of 2 where the flow takes 1, on the loss exp(-way / 200)."""
    t = np.arange(401)
    run = made()
    run["discrete"]["effective_step"], run["central"]["effective_step"] = np.full(401, 2.0), np.ones(401)
    run["discrete"]["loss"], run["central"]["predicted_loss"] = np.exp(-2 * t / 200), np.exp(-t / 200)
    found = measures.at_equal_way(run)
    assert found[:201] == pytest.approx(run["discrete"]["loss"][:201]) and np.isnan(found[201:]).all()
    compared = compare(run, 5)
    assert measures.equal_way_error(compared) == pytest.approx(0.0, abs=1e-12)
    assert prediction_error(compared) > 0.5


def test_an_equal_way_adds_up_the_steps_taken_until_then_and_a_flow_that_stopped_is_no_match():
    """The optimizer's steps are 2, 1, 1, ...: after the first it is two of the flow's steps ahead."""
    run, t = made(), np.arange(401)
    run["discrete"]["effective_step"] = np.where(t == 0, 2.0, 1.0)
    run["central"]["effective_step"], run["central"]["predicted_loss"] = np.ones(401), 1000.0 - t
    assert measures.at_equal_way(run)[:4].tolist() == [1000.0, 998.0, 997.0, 996.0]
    run["discrete"]["loss"] = np.full(401, 2000.0)
    run["central"]["predicted_loss"] = np.full(401, 1000.0)
    assert measures.equal_way_error(compare(run, 5)) == pytest.approx(0.5)  # relative to the optimizer
    run["central"]["loss"][-1] = np.nan
    assert measures.equal_way_error(compare(run, 5)) == np.inf


def test_who_holds_the_edge_is_computed_with_the_runs_own_rate_and_memory():
    experiment = FlowRun(**SMALL)
    problem = experiment.problem(Context())
    w = problem.w0
    values, vectors = problem.top_eigenpairs(w, 1, tolerance=1e-10)
    steepness = float(problem.third(w, vectors[:, 0], vectors[:, 0]).square().sum())
    through_weights, through_nu = 0.5 * 0.99 * steepness, 0.01 * (float(values[0]) / 0.02) ** 2
    shares = penalty_shares(experiment, np.stack([w.numpy()] * 2))
    assert shares == pytest.approx(2 * [through_weights / (through_weights + through_nu)], rel=1e-6)
    assert penalty_shares(experiment, np.empty((0, problem.p))).shape == (0,)
    for other in ({"schedule": "drop"}, {"eps": 1e-3}):
        with pytest.raises(InputError, match="one learning rate and no epsilon"):
            penalty_shares(FlowRun(**SMALL, **other), w.numpy()[None])
    with pytest.raises(InputError, match="No weights"):
        closed_form_along(experiment, np.empty((0, problem.p)), np.ones(1), np.ones(1))
