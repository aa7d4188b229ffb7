"""Lockstep runs: the optimizer itself, the stable flow, the central flow, and what a run leaves."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from toys import quadratic, tiny_problem

import gfm
from gfm.central import Settings, complementarity
from gfm.curvature import dense_hessian
from gfm.errors import GfmError, UnreadableFileError
from gfm.optimizers import GradientDescent, RMSProp, ScalarRMSProp

run = gfm.central.run


@pytest.mark.no_cover
def test_on_a_quadratic_everything_is_known():
    h, w, lr, steps = np.array([1.0, 0.3]), np.array([1.0, -2.0]), 0.5, 6
    found = run(quadratic(h.tolist(), w.tolist()), GradientDescent(lr=lr), steps, substeps=100)
    t = np.arange(steps + 1)[:, None]
    discrete = 0.5 * (h * (w * (1 - lr * h) ** t) ** 2).sum(1)
    flow = 0.5 * (h * (w * np.exp(-lr * h * t)) ** 2).sum(1)
    assert np.allclose(found["discrete"].loss, discrete, rtol=1e-12)
    assert np.allclose(found["stable"].loss, flow, rtol=5e-3)
    assert np.allclose(found["central"].loss, found["stable"].loss, rtol=1e-12)  # below the edge they are one
    assert np.allclose(found["central"].eigenvalues[:, 0], lr)
    assert np.allclose(found["central"].predicted_loss, found["central"].loss)


def test_the_stable_flow_is_that_of_a_general_solver():
    problem, lr, steps = tiny_problem(), 0.5, 12
    found = run(problem, GradientDescent(lr=lr), steps, processes=["stable"], substeps=32, keep_weights=steps)
    exact = solve_ivp(
        lambda _, w: -lr * problem.gradient(torch.from_numpy(w)).numpy(), (0, steps), problem.w0.numpy(),
        rtol=1e-7, atol=1e-9,
    ).y[:, -1]
    moved = np.linalg.norm(exact - problem.w0.numpy())
    assert np.linalg.norm(found["stable"].weights[-1] - exact) < 5e-3 * moved


@pytest.mark.no_cover
def test_euler_substeps_converge_at_first_order():
    """A14: halving the substep halves the change of the central flow's loss."""
    options = {"processes": ["central"], "warmup": 20}
    losses = [
        run(tiny_problem(), GradientDescent(lr=0.4), 28, substeps=s, **options)["central"].loss[-1] for s in (2, 4, 8)
    ]
    change = np.abs(np.diff(losses))
    assert change[0] > 1e-7 and 0.3 < change[1] / change[0] < 0.75


@pytest.fixture(scope="module")
def edge_run():
    """Reaches the edge at step 15 and stays there."""
    return run(tiny_problem(), GradientDescent(lr=0.8), 45, keep_weights=5)


def test_the_central_flow_stays_at_the_edge_by_the_dense_hessian(edge_run):
    """A1, A2, D2 on a small problem, the eigenvalue taken from the whole matrix."""
    problem, flow = tiny_problem(), edge_run["central"]
    assert np.nanmax(flow.sigma) > 0
    assert np.diff(flow.loss).max() < 1e-6
    below = np.flatnonzero(flow.eigenvalues[:, 0] < 2)[0]
    for t, w in zip(flow.weights_steps, flow.weights, strict=True):
        top = 0.8 * float(torch.linalg.eigvalsh(dense_hessian(problem, torch.from_numpy(w).double()))[-1])
        assert top == pytest.approx(flow.eigenvalues[int(t), 0], abs=1e-4)
        if t > below:  # the step at which a steep rise meets the edge may pass it by a little more
            assert top < 2 * (1 + (1e-3 if t > below + 20 else 1e-2))
    assert np.nanmax(flow.residuals[:, 0]) < 1e-5


def test_every_eigenvalue_above_the_line_is_tracked(edge_run):
    """D1 along a run."""
    problem, flow = tiny_problem(), edge_run["central"]
    for t, w in zip(flow.weights_steps, flow.weights, strict=True):
        true = 0.8 * torch.linalg.eigvalsh(dense_hessian(problem, torch.from_numpy(w).double())).flip(0)
        above = int((true > 1.5).sum())
        assert np.isfinite(flow.eigenvalues[int(t)]).sum() >= above
        assert np.allclose(flow.eigenvalues[int(t), :above], true[:above].numpy(), atol=1e-4)


def test_oscillation_lives_where_the_edge_is(edge_run):
    """A9: never more variances than eigenvalues at the edge."""
    flow = edge_run["central"]
    active = (np.nan_to_num(flow.sigma) > 1e-6).sum(1)
    locked = (np.nan_to_num(flow.eigenvalues) > 1.99).sum(1)
    assert (active <= locked).all() and active.max() >= 1


@pytest.mark.parametrize(("rule", "warmup", "steps"), [  # all begin a few steps before the edge
    (GradientDescent(lr=0.5), 20, 12), (ScalarRMSProp(lr=0.05, beta2=0.9), 40, 12),
    (RMSProp(lr=0.01, beta2=0.9, eps=1e-3, bias_correction=True), 8, 7),
], ids=["gd", "scalar", "rmsprop"])
@pytest.mark.parametrize(("band", "error"), [(1e-4, 1e-5), (None, 1e-3)], ids=["narrow", "default"])
@pytest.mark.no_cover
def test_the_critical_share_does_not_matter(rule, warmup, steps, band, error):
    """D4: which directions are let into the condition early does not change the flow, but for what its band allows."""
    low, high = (
        run(
            tiny_problem(), rule, steps, processes=["central"], warmup=warmup,
            settings=Settings(critical_share=share, band=band),
        )["central"]
        for share in (0.95, 0.995)
    )
    assert np.allclose(low.loss, high.loss, rtol=error, atol=0)
    assert np.nanmax(low.sigma) > 0 and low.critical.max() >= 1


@pytest.mark.no_cover
def test_both_precisions_give_the_same_flow():
    single, double = (
        run(tiny_problem(dtype), GradientDescent(lr=0.5), 20, processes=["central"], warmup=20)["central"]
        for dtype in (torch.float32, torch.float64)
    )
    assert np.allclose(single.loss, double.loss, rtol=1e-2)
    for found in (single, double):
        assert found.eigenvalues[-1, 0] == pytest.approx(2.0, abs=3e-3)


@pytest.mark.parametrize(("rule", "warmup", "steps"), [
    (ScalarRMSProp(lr=0.2, beta2=0.9), 8, 40),
    (RMSProp(lr=0.03, beta2=0.9, eps=1e-3, bias_correction=True), 10, 34),
], ids=["scalar rmsprop", "rmsprop"])
@pytest.mark.no_cover
def test_adaptive_optimizers_reach_and_keep_the_edge(rule, warmup, steps):
    found = run(tiny_problem(), rule, steps, processes=["discrete", "central"], warmup=warmup)
    top = found["central"].eigenvalues[:, 0]
    assert np.abs(top[-20:] - 2).max() < 5e-3
    smooth = np.convolve(found["discrete"].loss, np.ones(10) / 10, "valid")[-20:]
    assert np.median(np.abs(found["central"].predicted_loss[-25:-5] - smooth) / smooth) < 0.25


@pytest.mark.no_cover
def test_pieces_of_the_data_give_the_same_run():
    whole, pieces = (  # pieces of 80 and 48 examples
        run(tiny_problem(batch_size=size), GradientDescent(lr=0.5), 10, warmup=20) for size in (None, 80)
    )
    assert np.nanmax(whole["central"].sigma) > 0
    assert np.allclose(whole["central"].loss, pieces["central"].loss, rtol=1e-8)


def test_midpoints_take_the_oscillation_out():
    found = run(tiny_problem(), GradientDescent(lr=0.5), 40, processes=["discrete", "midpoint"], warmup=80,
                settings=Settings(eigen_every=40))
    late = slice(0, 38)
    moved = {name: np.abs(np.diff(found[name].loss[late])).sum() for name in ("midpoint", "discrete")}
    assert moved["midpoint"] < 0.5 * moved["discrete"]


def test_midpoints_are_exact_on_a_quadratic_and_cancel_period_two():
    """Where each step multiplies a weight by r, they are (1 + r)^2 / 4 times the weights of the step before."""
    h, w, lr, steps = np.array([2.0, 1.2, 0.4]), np.array([1.0, -2.0, 3.0]), 1.0, 5
    found = run(quadratic(h.tolist(), w.tolist()), GradientDescent(lr=lr), steps, processes=["midpoint"],
                observables={"w": lambda w: w})["midpoint"]
    r = 1 - lr * h
    expected = w * r ** np.arange(steps)[:, None] * ((1 + r) / 2) ** 2
    assert np.allclose(found.w[1:], expected, rtol=1e-12, atol=1e-14)
    assert np.abs(found.w[1:, 0]).max() < 1e-15  # r = -1: the optimizer jumps from side to side
    assert np.allclose(found.w[0], w * (3 + r) / 4, rtol=1e-12)  # before the first step there is none


def test_stiff_directions_of_the_stable_flow_decay_without_oscillation():
    """Substeps are so short that Euler's method does not jump over the minimum, and slow directions stay exact."""
    h, w, steps = np.array([10.0, 1.0]), np.array([1.0, 1.0]), 4
    found = run(quadratic(h.tolist(), w.tolist()), GradientDescent(lr=1.0), steps, processes=["stable"],
                observables={"w": lambda w: w})["stable"]
    exact = np.exp(-h * np.arange(steps + 1)[:, None])
    assert (found.w >= 0).all() and (found.w[1:, 0] < 1e-3).all()
    assert np.allclose(found.w[1, 1], exact[1, 1], rtol=0.04)
    assert np.allclose(found.loss[1:], 0.5 * found.w[1:, 1] ** 2, rtol=1e-6)


def test_the_expectation_of_a_function_is_exact_for_quadratics():
    """E |w|^2 = |w|^2 + tr Sigma."""
    problem = tiny_problem()
    found = run(
        problem, GradientDescent(lr=0.5), 12, processes=["central"], warmup=20, observables={"square": lambda w: w @ w},
    )["central"]
    trace = np.nansum(found.sigma, 1) * 0.5  # Sigma = lr V X V^T
    assert trace.max() > 1e-3
    assert np.allclose(found.predicted_square[:, 0], found.square[:, 0] + trace, atol=1e-6)


def test_runs_are_repeatable_and_survive_saving(tmp_path, edge_run):
    once, again = (run(tiny_problem(), GradientDescent(lr=0.8), 8, warmup=12, keep_weights=4) for _ in range(2))
    assert np.nanmax(once["central"].sigma) > 0  # it is at the edge
    edge_run.save(tmp_path / "run.npz")
    back = gfm.central.Run.load(tmp_path / "run.npz")
    for one, other in ((once, again), (edge_run, back)):
        assert set(other.series) == set(one.series)
        for process in one.series:
            for name, values in one[process].items():
                assert np.array_equal(values, other[process][name], equal_nan=True), (process, name)
        assert np.array_equal(
            other.distance("central", "discrete"), one.distance("discrete", "central"), equal_nan=True
        )
    assert back.settings["lr"] == 0.8 and back.costs["central"]["thirds"] > 0


def test_files_that_are_no_runs_are_refused(tmp_path, edge_run):
    edge_run.save(tmp_path / "run.npz")
    whole = (tmp_path / "run.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    for name in ("cut.npz", "foreign.npz", "absent.npz"):
        with pytest.raises(UnreadableFileError):
            gfm.central.Run.load(tmp_path / name)
    with pytest.raises(GfmError):
        edge_run.save(tmp_path / "run.pickle")


def test_warnings_come_when_they_happen_and_stay_in_the_notes():
    reached = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="central at step 0: all 1 tracked"):
            run(
                tiny_problem(), GradientDescent(lr=4.0), 5, processes=["central"], settings=Settings(cap=1),
                progress=lambda a, b: reached.append(a),
            )
    assert reached == []
    with pytest.warns(UserWarning, match="raise the cap"):
        found = run(tiny_problem(), GradientDescent(lr=4.0), 3, processes=["central"], settings=Settings(cap=1))
    assert sum("all 1 tracked" in note for note in found.notes) == 1


def test_where_no_flow_runs_a_cap_is_no_matter():
    alone = run(tiny_problem(), GradientDescent(lr=4.0), 3, processes=["discrete", "stable"], settings=Settings(cap=1))
    assert not alone.notes and alone["discrete"].eigenvalues[0, 0] > 1.5


def test_a_covariance_that_was_not_found_is_noted(monkeypatch):
    solve = complementarity.solve
    monkeypatch.setattr(complementarity, "solve", lambda A, B: replace(solve(A, B), converged=False))
    with pytest.warns(UserWarning, match="covariance was not found"):
        found = run(tiny_problem(), GradientDescent(lr=2.0), 3, processes=["central"])
    assert sum("covariance was not found" in note for note in found.notes) == 1


def test_the_costs_of_a_warm_up_are_kept():
    problem = tiny_problem()
    found = run(problem, GradientDescent(lr=0.1), 2, warmup=7, processes=["discrete", "stable"])
    assert found.costs["warmup"]["gradients"] == 7 and set(found.costs) == {"warmup", "discrete", "stable"}
    for name in ("gradients", "hvps", "thirds"):
        assert sum(cost[name] for cost in found.costs.values()) == getattr(problem.costs, name)
    assert set(run(tiny_problem(), GradientDescent(lr=0.1), 1, processes=["stable"]).costs) == {"stable"}


def test_a_process_that_diverges_stops_and_is_noted():
    with pytest.warns(UserWarning, match="discrete stopped"):
        found = run(tiny_problem(), GradientDescent(lr=60.0), 40, processes=["discrete"])
    assert np.isnan(found["discrete"].loss[-1]) and np.isfinite(found["discrete"].loss[0])
    assert any("discrete" in note for note in found.notes)


def test_an_observable_that_works_in_place_changes_no_run():
    plain, strange = (
        run(tiny_problem(), GradientDescent(lr=0.5), 4, warmup=20, observables={"size": function})
        for function in (lambda w: w.sum() / 2, lambda w: w.mul_(0.5).sum())
    )
    for process in ("discrete", "central"):
        assert np.array_equal(plain[process].loss, strange[process].loss)
    assert np.allclose(plain["central"].size, strange["central"].size)


def test_names_that_were_not_measured_are_said(edge_run):
    with pytest.raises(GfmError, match="No process"):
        _ = edge_run["midpoint"]
    with pytest.raises(GfmError, match="not measured"):
        edge_run["central"]["accuracy"]
    with pytest.raises(AttributeError, match="not measured"):
        _ = edge_run["central"].accuracy
