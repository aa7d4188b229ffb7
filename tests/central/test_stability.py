"""The flows where their equations are stiff: under momentum, a short-lived second moment, and away from the edge."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import quadratic, tiny_problem

import gfm
from gfm.central import Settings
from gfm.central.processes import Central
from gfm.central.substep import Critical
from gfm.experiments.central.valley import Valley, ValleyRun
from gfm.optimizers import Adam, GradientDescent, HeavyBall, ScalarRMSProp

run = gfm.central.run


@pytest.mark.parametrize("theta", [8.1, 20.0, 36.0])
@pytest.mark.no_cover
def test_large_eigenvalues_below_a_high_threshold_decay(theta):
    """Momentum .9 is stable up to 38, where four Euler substeps are not beyond 8."""
    rule = HeavyBall(lr=0.1, momentum=0.9)  # P = 1
    found = run(quadratic([theta, 0.05], [1.0, 1.0]), rule, 10, processes=("stable", "central"))
    expected = 0.5 * 0.05 * np.exp(-2 * 0.05 * 10)
    assert found["stable"].loss[-1] == pytest.approx(expected, rel=1e-2)
    assert found["central"].loss[-1] == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("b", [0.0, 0.3, 0.9])
@pytest.mark.no_cover
def test_the_flow_of_momentum_settles_at_its_edge(b):
    """In a straight valley: y rests where S(y) = 2 (1 + b) / lr, held by E x^2 = 2 pull (goal - y) / S'(y)."""
    lr = 0.1
    valley = ValleyRun(start=(-0.01,), offset=0.0, bend=0.0, edge_lr=lr / (1 + b), steepening=0.5, pull=0.05 * (1 - b))
    found = run(Valley(valley).problem(), HeavyBall(lr=lr, momentum=b), 10, processes=["central"], keep_weights=10)
    flow, S = found["central"], 2 * (1 + b) / lr
    variance = 2 * valley.pull * valley.goal / (valley.steepening * S)
    assert flow.eigenvalues[-1, 0] == pytest.approx(2 * (1 + b) / (1 - b), rel=1e-4)
    assert flow.weights[-1] == pytest.approx([0.0, 0.0], abs=1e-3)
    assert flow.sigma[-1, 0] * lr / (1 - b) == pytest.approx(variance, rel=5e-3)
    assert flow.predicted_loss[-1] - flow.loss[-1] == pytest.approx(0.5 * S * variance, rel=5e-3)
    assert flow.loss[-1] == pytest.approx(0.5 * valley.pull * valley.goal**2, rel=1e-3)


@pytest.mark.parametrize(("b", "steps"), [(0.0, 600), (0.3, 1000)])
@pytest.mark.no_cover
def test_the_optimizer_with_momentum_swings_as_its_flow_predicts(b, steps):
    """In the same valley, started on its cycle but for the momentum, far inside the linear range."""
    lr = 0.1
    valley = ValleyRun(bend=0.0, edge_lr=lr / (1 + b), steepening=0.5, pull=2e-3 * (1 - b))
    variance = 2 * valley.pull * valley.goal / (valley.steepening * 2 * (1 + b) / lr)
    problem = Valley(ValleyRun(**{**vars(valley), "start": (0.0,), "offset": variance**0.5})).problem()
    found = run(problem, HeavyBall(lr=lr, momentum=b), steps, processes=["discrete"], keep_weights=1,
                settings=Settings(eigen_every=steps))
    x, y = found["discrete"].weights[steps // 3 :].T
    if b:  # y swings slowly: means are over a whole cycle of it, from zero to zero
        first, *_, last = np.flatnonzero((y[:-1] < 0) & (y[1:] >= 0))
        x, y = x[first:last], y[first:last]
    assert np.mean(x**2) == pytest.approx(variance, rel=0.05) and abs(y.mean()) < 2e-3


def test_adams_early_edge_is_low_but_its_flow_no_stiffer():
    """After one step the edge is a tenth of the later one, and of P; substeps are counted by P."""
    rule = Adam(lr=1.0, beta1=0.9, beta2=0.99, eps=0.0)  # P = |g| after one step, and P^-1 H = 1
    found = run(quadratic([1.0, 0.5], [1.0, -1.0]), rule, 1, settings=Settings(max_effective=5.0))
    assert found["discrete"].eigenvalues[0, 0] == pytest.approx(10.0)
    assert found["central"].substeps[0] == 4 and np.isfinite(found["stable"].loss[1])


@pytest.mark.parametrize("beta2", [0.05, 0.15])
@pytest.mark.no_cover
def test_a_short_lived_second_moment_is_followed(beta2):
    """Its rate, (1 - beta2) / beta2 per step, is beyond what four substeps can follow."""
    rule = ScalarRMSProp(lr=0.01, beta2=beta2)
    coarse, fine = (
        run(tiny_problem(), rule, 8, processes=("stable", "central"), substeps=s) for s in (4, 60)
    )
    for name in ("stable", "central"):
        assert coarse[name].loss[-1] == pytest.approx(fine[name].loss[-1], rel=1e-3)


@pytest.fixture
def left_its_band(monkeypatch):
    """A flow whose step-size control lets everything pass: it leaves its band by less than 2 %."""
    monkeypatch.setattr(gfm.central.control.Control, "_beyond", lambda self, top: False)
    with pytest.warns(UserWarning, match="beyond the edge of stability by more than its band of 0.01%"):
        return run(tiny_problem(), GradientDescent(lr=0.8), 30, processes=["central"])


def test_a_flow_that_leaves_its_band_says_so_once(left_its_band):
    excess = left_its_band["central"].eigenvalues[:, 0] / 2 - 1
    first = np.flatnonzero(excess > 1e-4)[0]
    assert (excess > 1e-4).sum() > 1 and excess.max() < 0.02
    assert [note.partition(":")[0] for note in left_its_band.notes] == [f"central at step {first}"]


@pytest.mark.parametrize("settings", [Settings(), Settings(adaptive=False, substeps=16)], ids=["usual", "fixed"])
def test_a_flow_that_stays_within_its_band_is_quiet(settings):
    found = run(tiny_problem(), GradientDescent(lr=0.8), 40, processes=["discrete", "central"], settings=settings)
    excess = found["central"].eigenvalues[:, 0] / 2 - 1
    assert np.nanmax(found["central"].sigma) > 0
    assert bool(found.notes) == bool(excess.max() > 1e-4)
    assert not settings.adaptive or not found.notes


def test_a_flow_that_starts_beyond_the_edge_says_so():
    with pytest.warns(UserWarning, match=r"starts beyond the edge of stability, at 1\.\d+ times the threshold"):
        found = run(tiny_problem(), ScalarRMSProp(lr=0.5, beta2=0.9), 4, processes=["central"], warmup=1)
    assert found["central"].eigenvalues[0, 0] > 2.3 and found["central"].eigenvalues[1:, 0].max() <= 2 * (1 + 5e-4)
    assert len(found.notes) == 1 and found.notes[0].startswith("central at step 0: ")


def test_a_swing_that_cannot_hold_the_flow_is_said_to_fail():
    """The curvature's slope is tiny and soon turns: X is as large as the first order asks, and does not help."""

    class Bumps(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.0, 0.3], dtype=torch.float64))

        def forward(self, one):
            x, y = self.w
            return (x * (1 + 1e-7 * torch.sin(y))).reshape(1, 1) * one

    one = torch.ones(1, 1, dtype=torch.float64)
    problem = gfm.Problem(Bumps(), one, 0 * one)
    with pytest.warns(UserWarning, match="by more than its band"):
        found = run(problem, GradientDescent(lr=lambda t: 1.99 + 0.005 * t), 12, processes=["central"])
    assert np.nanmax(found["central"].sigma) > 1e3


def test_the_variance_of_a_step_is_that_of_its_beginning(monkeypatch):
    """Substeps at either side of a step have it in their mean, to a few thousandths: it is no bias of the first one."""
    taken, rates = [], Critical.rates
    monkeypatch.setattr(Critical, "rates", lambda self, dt: taken.append((dt, found := rates(self, dt))) or found)
    problem, rule = tiny_problem(), GradientDescent(lr=0.8)
    flow = Central(problem, rule, Settings(adaptive=False), problem.w0, rule.init(problem.w0))
    logged, means = [], []
    for t in range(45):
        logged.append(flow.observe(t)["sigma"].sum())
        flow.advance()
        means.append(sum(dt * found.oscillation.X.trace() for dt, found in taken) if len(taken) == 4 else np.nan)
        taken.clear()
    logged, means = np.array(logged[25:]), np.array(means[24:])
    around = (means[1:] + means[:-1]) / 2
    assert np.abs(logged / around - 1).max() < 0.01 and np.abs(np.median(logged / around) - 1) < 3e-3
