"""One substep against the one that the authors' public code takes; golden_substep.json holds its numbers.

Three things differ on purpose. Their second moments see H u_i as lambda_i P u_i, ours as c P u_i, so
that our push of the pair i, j is theirs times c^2 / (lambda_i lambda_j). Their solver stops at a
relative gap of 1e-6, which bounds the relative error of Sigma by its root, 1e-3; ours is exact.
Under RMSProp their clock t runs 1 / beta2 times as fast as ours; nothing else depends on it here.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import gfm
from gfm.central import Settings, complementarity
from gfm.central.complementarity import Solution
from gfm.central.processes import Central
from gfm.linalg.symmetric import pairs
from gfm.optimizers import GradientDescent, RMSProp, State

GOLDEN = json.loads(Path(__file__).with_name("golden_substep.json").read_text())
CASES = list(GOLDEN["cases"])
DT = GOLDEN["dt"]
RULES = {"gradient descent": GradientDescent, "rmsprop": RMSProp}
#: Relative error of their Sigma: the root of the relative gap at which CVXOPT stops.
SOLVER = 1e-3


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


class Case:
    """Their numbers, and our flow observed at the same point."""

    def __init__(self, name):
        golden = GOLDEN["cases"][name]
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.problem = gfm.Problem(net, numbers(GOLDEN["inputs"]), numbers(GOLDEN["targets"]))
        options = dict(golden["optimizer"])
        self.rule = RULES[options.pop("kind")](**options)
        self.w = numbers(golden["w"])
        self.state = State(golden["t"], numbers(golden["nu"]) if "nu" in golden else None)
        self.flow = Central(
            self.problem, self.rule, Settings(substeps=round(1 / DT), track=3, tolerance=1e-12), self.w,
            self.rule.init(self.w),
        )
        self.flow.state = self.state
        self.seen = self.flow.observe(0)
        self.P = self.rule.preconditioner(self.state) * torch.ones_like(self.w)

        self.values = np.array(golden["eigenvalues"])
        self.next_value = golden["next_eigenvalue"]
        self.loss = golden["loss"]
        U = numbers(golden["U"])
        self.sigma = U.T @ numbers(golden["X"]) @ U
        self.w_moved = numbers(golden["w_end"]) - self.w
        self.nu_moved = numbers(golden["nu_end"]) - self.state.nu if "nu" in golden else None
        self.ticked, self.clock = golden["t_end"] - golden["t"], getattr(self.rule, "beta2", 1.0)
        i, j = pairs(len(self.values))
        self.shares = self.values[i] * self.values[j] / self.rule.threshold**2

    def with_their_images(self):
        """Our derivatives with lambda P u for H u; of B, then not symmetric, they use the symmetric part."""
        local = self.flow._local
        if local.nu_push is None:
            return local
        curvature = 2 * ((local.w_push * self.P) @ local.w_push.T).numpy()
        memory = (local.B - curvature) * (self.shares + self.shares[:, None]) / 2
        return replace(local, B=curvature + memory, nu_push=local.nu_push * numbers(self.shares)[:, None])


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return Case(request.param)


def covariance(found):
    return found.U.T @ numbers(found.X) @ found.U


def test_the_cases_are_not_degenerate(case):
    """At the edge, not exactly on it, and with an oscillation that contributes much of the motion."""
    assert ((1.95 < case.values) & (case.values < 2.02)).all() and case.next_value < 1.95
    assert (np.abs(case.values - 2) > 1e-3).all()
    stable = DT * case.flow._local.w_rate
    assert float((case.w_moved - stable).norm() / stable.norm()) > 0.2


def test_they_cover_one_and_two_directions_with_x_of_rank_one_and_two():
    ranks = {"gradient descent": set(), "rmsprop": set()}
    for golden in GOLDEN["cases"].values():
        X = np.array(golden["X"])
        variances = np.linalg.eigvalsh(X)
        if len(X) == 2:
            assert abs(X[0, 1]) > 0.01 * variances[-1]  # so that off-diagonals matter
        ranks[golden["optimizer"]["kind"]].add((len(X), int((variances > 1e-4 * variances[-1]).sum())))
    assert all(found == {(1, 1), (2, 2), (2, 1)} for found in ranks.values())


def test_loss_and_eigenvalues_are_theirs(case):
    assert case.seen["loss"] == pytest.approx(case.loss, rel=1e-13)
    count, expected = len(case.values), [*case.values, case.next_value]
    assert np.allclose(case.seen["eigenvalues"][: count + 1], expected, rtol=1e-12, atol=0)
    assert case.flow.oscillation.X.shape == (count, count)


def test_the_covariance_is_theirs_to_their_solvers_tolerance(case):
    found = covariance(case.with_their_images().rates(DT).oscillation)
    assert float((found - case.sigma).norm() / case.sigma.norm()) < SOLVER


def test_their_covariance_moves_weights_and_state_as_theirs(case, monkeypatch):
    """With Sigma given, no solver stands between: every factor of the rates, to rounding."""
    local = case.with_their_images()
    lifted = local.U * case.P
    X = (lifted @ case.sigma @ lifted.T).numpy()
    monkeypatch.setattr(complementarity, "solve", lambda A, B: Solution(X, 0.0, 0.0, 0.0, True))
    rates = local.rates(DT)
    assert float((DT * rates.w - case.w_moved).norm() / case.w_moved.norm()) < 1e-10
    if case.nu_moved is not None:
        assert float((DT * rates.state.nu - case.nu_moved).norm() / case.nu_moved.norm()) < 1e-10


def test_a_substep_ends_where_theirs_does(case):
    """The flow as it is: it differs by a share of what oscillation adds, the solver's and the images'."""
    local, rates, images = case.flow._local, case.flow._rates, np.abs(case.shares - 1).max()
    tolerance = SOLVER + (images if case.nu_moved is not None else 0.0)
    found = covariance(rates.oscillation)
    assert float((found - case.sigma).norm() / case.sigma.norm()) < tolerance
    w = case.w + DT * rates.w
    added = case.w_moved - DT * local.w_rate
    assert float((w - case.w - case.w_moved).norm() / added.norm()) < tolerance
    end = case.state.moved(rates.state, DT)
    if case.nu_moved is not None:
        added = case.nu_moved - DT * local.state_rate.nu
        assert float((end.nu - case.state.nu - case.nu_moved).norm() / added.norm()) < tolerance
    assert end.t - case.state.t == pytest.approx(case.clock * case.ticked, rel=1e-10)
