"""The central flow stays within its band of the edge, also where eigenvectors turn within a step."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import tiny_data, tiny_problem

import gfm
from gfm.central import Settings
from gfm.central.processes import Central
from gfm.optimizers import GradientDescent, RMSProp, ScalarRMSProp

BAND, MOVING = 1e-4, 5e-4  # the defaults in float64: a constant preconditioner, one with second moments


def excess(rule, steps, warmup=0, **settings):
    """Largest relative excess (steps+1,) over the edge, and how often each step was taken again."""
    found = gfm.central.run(
        tiny_problem(), rule, steps, processes=["central"], warmup=warmup, settings=Settings(**settings)
    )["central"]
    return found.eigenvalues[:, 0] / rule.threshold - 1, found.retaken


@pytest.mark.parametrize(("rule", "dtype", "band"), [
    (GradientDescent(lr=0.1), torch.float64, 1e-4), (RMSProp(lr=0.01, beta2=0.9), torch.float64, 5e-4),
    (ScalarRMSProp(lr=0.1, beta2=0.9), torch.float64, 5e-4), (GradientDescent(lr=0.1), torch.float32, 1e-3),
    (RMSProp(lr=0.01, beta2=0.9), torch.float32, 1e-3),
], ids=["gd", "rmsprop", "scalar", "gd single", "rmsprop single"])
def test_the_band_that_is_taken_where_none_is_given(rule, dtype, band):
    """As the settings' docstring says, which is what the book's comparisons of runs and flows go by too."""
    problem = tiny_problem(dtype)
    flow = Central(problem, rule, Settings(), problem.w0, rule.init(problem.w0))
    assert flow.control.accept(rule.threshold * (1 + 0.99 * band), 0.25)
    assert not flow.control.accept(rule.threshold * (1 + 1.01 * band), 0.25)


@pytest.mark.parametrize("options", [{}, {"substeps": 1}, {"refresh_substeps": True}], ids=["four", "one", "fresh"])
@pytest.mark.no_cover
def test_a_steep_arrival_ends_within_the_band(options):
    rule = GradientDescent(lr=1.2)
    beyond, _ = excess(rule, 12, adaptive=False, substeps=options.get("substeps", 4))
    assert beyond.max() > 10 * BAND  # with fixed substeps it does not
    within, retaken = excess(rule, 12, **options)
    assert within.max() <= BAND
    if "refresh_substeps" not in options:
        assert retaken.max() >= 1


def test_rules_with_memory_too():
    rule = ScalarRMSProp(lr=0.2, beta2=0.9)
    beyond, _ = excess(rule, 14, adaptive=False, warmup=3)
    within, _ = excess(rule, 14, warmup=3)
    assert within[1:].max() <= MOVING < beyond[1:].max()


def test_a_calm_run_takes_no_step_again():
    _, retaken = excess(GradientDescent(lr=0.1), 20)
    assert (retaken == 0).all()


@pytest.mark.no_cover
def test_the_dense_mode_finds_the_same_flow():
    rule = GradientDescent(lr=1.0)
    runs = [
        gfm.central.run(
            tiny_problem(width=6), rule, 18, processes=["central"], settings=Settings(tolerance=1e-8, dense=dense)
        )
        for dense in (False, True)
    ]
    tracked, exact = (found["central"] for found in runs)
    assert np.nanmax(exact.critical) >= 1
    assert np.allclose(tracked.eigenvalues[:, 0], exact.eigenvalues[:, 0], rtol=1e-6)
    assert np.allclose(tracked.loss, exact.loss, rtol=1e-6)
    assert runs[1].costs["central"]["hvps"] > 18 * tiny_problem(width=6).p  # every refresh saw the whole Hessian


@pytest.mark.parametrize(
    ("activation", "substeps", "most"), [(nn.ELU, 8, 0.002), (nn.ReLU, 10, 0.02)], ids=["elu", "relu"]
)
@pytest.mark.no_cover
def test_where_the_curvature_jumps_substeps_stay_long(activation, substeps, most):
    # ELU's second derivative jumps at zero, ReLU's first: each example that crosses it moves the eigenvalue at once.
    X, Y = tiny_data()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(X.shape[1], 8), activation(), nn.Linear(8, Y.shape[1])).double()
    found = gfm.central.run(gfm.Problem(net, X, Y), GradientDescent(lr=0.8), 36, processes=["central"])["central"]
    assert np.nanmax(found.critical) >= 1
    assert found.substeps.mean() < substeps
    assert found.eigenvalues[:, 0].max() / 2 - 1 < most


def test_steps_on_which_eigenvectors_turn_are_not_repeated(monkeypatch):
    def run():
        problem = tiny_problem()
        found = gfm.central.run(problem, GradientDescent(lr=0.8), 25, processes=["central"], warmup=12)["central"]
        return found.retaken.sum(), problem.costs.hvps, found.loss[-1]

    repeated, products, loss = run()
    monkeypatch.setattr(gfm.curvature.Tracker, "ahead", lambda self, time: None)  # those of the step's start
    all_repeated, all_products, same = run()
    assert repeated < 0.3 * all_repeated and products < 0.7 * all_products
    assert abs(loss / same - 1) < 1e-3


def test_large_blocks_worked_on_row_by_row_give_the_same_flow(monkeypatch):
    rule, options = GradientDescent(lr=0.6), {"processes": ["central"], "settings": Settings(tolerance=1e-6)}
    monkeypatch.setattr(gfm.curvature.Tracker, "ahead", lambda self, time: None)  # large eigenvectors do not turn
    usual = gfm.central.run(tiny_problem(), rule, 12, warmup=16, **options)["central"]
    monkeypatch.setattr(gfm.linalg.deflation, "LARGE", 10)
    frugal = gfm.central.run(tiny_problem(), rule, 12, warmup=16, **options)["central"]
    assert np.nanmax(frugal.critical) >= 1
    assert np.allclose(frugal.eigenvalues[:, 0], usual.eigenvalues[:, 0], rtol=1e-5)
    assert np.allclose(frugal.loss, usual.loss, rtol=1e-5)
    assert not np.array_equal(frugal.loss, usual.loss)  # another way was taken


@pytest.mark.parametrize(
    "rule", [GradientDescent(lr=0.8), RMSProp(lr=0.004, beta2=0.95, eps=1e-3)], ids=["gd", "rmsprop"]
)
def test_within_a_step_the_candidates_turn_to_those_of_the_next(rule):
    problem = tiny_problem()
    flow = Central(problem, rule, Settings(), problem.w0, rule.init(problem.w0))
    for t in range(36):
        flow.observe(t)
        flow.advance()
    flow.observe(36)
    start = flow._candidates.clone()
    flow.advance()
    flow._turn(1.0)
    turned = flow._candidates.clone()
    flow.observe(37)
    assert len(start) == len(turned) == len(flow._candidates) >= 1
    assert (turned - flow._candidates).norm() < 0.2 * (start - flow._candidates).norm()
