"""Lockstep runs whose learning rate changes: where in time the rates apply, and what the edge then is."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from toys import tiny_problem

import gfm
from gfm.curvature import dense_hessian
from gfm.optimizers import GradientDescent, RMSProp
from gfm.optimizers.schedules import named

run = gfm.central.run


@pytest.mark.parametrize("name", ["warmup", "cosine"])
@pytest.mark.no_cover
def test_the_optimizer_takes_the_rate_of_its_step_and_the_flow_that_of_its_time(name):
    problem, warmup, steps = tiny_problem(), 3, 15
    rate = named(name, 0.3, warmup + steps)
    found = run(
        problem, GradientDescent(lr=rate), steps, processes=["discrete", "stable"],
        substeps=64, warmup=warmup, keep_weights=steps,
    )
    w, start = problem.w0, None
    for t in range(warmup + steps):
        start = w if t == warmup else start
        w = w - rate(t) * problem.gradient(w)
    assert np.allclose(found["discrete"].weights[-1], w.numpy(), atol=1e-6)  # stored in single precision
    assert found["discrete"].loss[-1] == pytest.approx(float(problem.loss(w)), rel=1e-12)
    for process in ("discrete", "stable"):
        assert found[process].lr == pytest.approx([rate(warmup + t) for t in range(steps + 1)], rel=1e-14)
    exact = solve_ivp(
        lambda t, w: -rate(warmup + t) * problem.gradient(torch.from_numpy(w)).numpy(), (0, steps), start.numpy(),
        rtol=1e-7, atol=1e-9,
    ).y[:, -1]
    assert np.linalg.norm(found["stable"].weights[-1] - exact) < 5e-3 * np.linalg.norm(exact - start.numpy())


@pytest.mark.parametrize(("name", "peak", "length", "first", "steps"), [
    ("warmup", 1.2, 300, 38, 58), ("cosine", 0.8, 100, 25, 45),
])
@pytest.mark.no_cover
def test_the_central_flow_holds_the_edge_of_the_rate_of_the_moment(name, peak, length, first, steps):
    """Sharpness 2 / lr(t), from the whole Hessian, while lr rises or falls by a quarter and more."""
    problem, rate = tiny_problem(), named(name, peak, length)
    flow = run(problem, GradientDescent(lr=rate), steps, processes=["central"], keep_weights=4)["central"]
    checked = [(int(t), w) for t, w in zip(flow.weights_steps, flow.weights, strict=True) if t >= first]
    for t, w in checked:
        sharpness = float(torch.linalg.eigvalsh(dense_hessian(problem, torch.from_numpy(w).double()))[-1])
        assert sharpness == pytest.approx(2 / rate(t), rel=2e-3), t
    rates = [rate(t) for t, _ in checked]
    assert max(rates) > 1.25 * min(rates) and len(checked) > 3
    assert np.nanmax(flow.sigma[first:]) > 0


@pytest.mark.no_cover
def test_an_adaptive_rule_holds_its_edge_under_a_schedule():
    """RMSProp after warm-up steps, past the steep start, with the learning rate falling."""
    rule = RMSProp(lr=named("cosine", 0.012, 120), beta2=0.9, eps=1e-3, bias_correction=True)
    flow = run(tiny_problem(), rule, 36, processes=["central"], warmup=10)["central"]
    assert np.abs(flow.eigenvalues[16:, 0] - 2).max() < 3e-3 and np.nanmin(flow.sigma[16:, 0]) > 0
    assert flow.lr[16] > 1.25 * flow.lr[-1]


@pytest.mark.no_cover
def test_a_schedule_given_by_whole_steps_only_is_the_smooth_one():
    """Such schedules jump at every step; between steps both are the same line."""
    smooth, jumping = (lambda t: 0.4 + 0.003 * t), (lambda t: 0.4 + 0.003 * int(t))
    one, other = (
        run(tiny_problem(), GradientDescent(lr=rate), 14, processes=["stable", "central"], warmup=20)
        for rate in (smooth, jumping)
    )
    assert np.nanmax(one["central"].sigma) > 0
    for name in ("stable", "central"):
        assert np.allclose(one[name].loss, other[name].loss, rtol=1e-10)


@pytest.mark.no_cover
def test_a_stair_at_the_edge_is_noted():
    rate = lambda t: 0.5 if t < 40 else 0.55  # noqa: E731
    with pytest.warns(UserWarning, match="central at step 19: the learning rate rises by more than 5%"):
        found = run(tiny_problem(), GradientDescent(lr=rate), 22, processes=["central"], warmup=20)
    assert found["central"].eigenvalues[-1, 0] == pytest.approx(2.0, abs=2e-3)


def test_a_drop_of_the_rate_ends_the_swing_one_step_before_it():
    """At step 6 the rate is half. The flow's falls within the step before, from whose start on it has no swing."""
    rule = GradientDescent(lr=named("drop", 0.5, 2 * 46))
    found = run(tiny_problem(), rule, 8, processes=["discrete", "central"], warmup=40)
    flow = found["central"]
    assert found["discrete"].lr.tolist() == flow.lr.tolist() == [0.5] * 6 + [0.25] * 3
    assert (flow.sigma[:5, 0] > 0).all() and np.nan_to_num(flow.sigma[5:]).max() == 0
    assert flow.predicted_loss[4] > 1.5 * flow.loss[4] and (flow.predicted_loss[5:] == flow.loss[5:]).all()
    assert flow.eigenvalues[5, 0] == pytest.approx(2.0, abs=2e-3) and flow.eigenvalues[6, 0] < 1.2
