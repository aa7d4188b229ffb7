"""Quadratics and the valley against what is known in closed form."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gfm.errors import InputError
from gfm.experiments.central import quadratics as q
from gfm.experiments.central import valley as v
from gfm.experiments.central.stored_weights import sharpness_at


def test_descent_on_a_quadratic_is_a_power():
    H, w0 = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -2.0])
    path = q.descend(q.quadratic(H, w0), 0.3, 7)
    assert np.allclose(path[7], np.linalg.matrix_power(np.eye(2) - 0.3 * H, 7) @ w0, atol=1e-12)
    assert q.growth(np.array([[1.0], [2.0], [4.0]])) == pytest.approx(2.0)


def test_a_preconditioner_scales_each_weight():
    H, P = np.diag([2.0, 3.0]), (4.0, 5.0)
    path = q.descend(q.quadratic(H, [1.0, 1.0]), q.FixedPreconditioner(P), 1)
    assert np.allclose(path[1], [1 - 2 / 4, 1 - 3 / 5])
    values, vectors = q.right_eigenvectors([[2.0, 1.0], [1.0, 2.0]], P)
    for value, u in zip(values, vectors.T, strict=True):
        assert np.allclose(np.array([[2.0, 1.0], [1.0, 2.0]]) @ u, value * np.array(P) * u)


def test_an_asymmetric_matrix_is_refused():
    with pytest.raises(InputError, match="symmetric"):
        q.quadratic([[1.0, 2.0], [0.0, 1.0]], [1.0, 1.0])
    with pytest.raises(InputError, match="semidefinite"):
        q.quadratic([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0])


def test_the_valley_is_the_loss_written_in_its_docstring():
    run = v.ValleyRun(start=(0.3,), offset=0.2)
    problem = v.Valley(run).problem()
    x, y = problem.w0.tolist()
    S = 2 / run.edge_lr * np.exp(run.steepening * y)
    expected = S * (x - run.bend * np.sin(y)) ** 2 / 2 + run.pull * (y - run.goal) ** 2 / 2
    assert float(problem.loss(problem.w0)) == pytest.approx(expected)
    loss, sharpness = v.landscape(run, np.array([x]), np.array([y]))
    assert loss[0, 0] == pytest.approx(expected)
    assert sharpness[0, 0] == pytest.approx(float(problem.top_eigenpairs(problem.w0, 1)[0]))


def test_the_variance_formula_holds_the_sharpness():
    """With dw/dt = -(grad L + sigma^2 grad S / 2) the sharpness stands still."""
    run = v.ValleyRun()
    w = np.array([0.01, -0.1])
    sigma2 = v.closed_form_variance(run, w)
    loss = lambda u: 0.5 * (v.Valley(run).residuals(u) ** 2).sum()  # noqa: E731
    top = lambda u: torch.linalg.eigvalsh(torch.func.hessian(loss)(u))[-1]  # noqa: E731
    at = torch.tensor(w)
    slope, rise = torch.func.grad(loss)(at), torch.func.grad(top)(at)
    assert float(rise @ (slope + 0.5 * sigma2 * rise)) == pytest.approx(0.0, abs=1e-10)


def test_the_lowest_stable_point_lies_on_the_border():
    run = v.ValleyRun()
    w = v.lowest_stable(run)
    assert v.landscape(run, w[:1], w[1:2])[1][0, 0] == pytest.approx(2 / run.lr, rel=1e-5)


def test_a_run_without_stored_weights_builds_no_network():
    """A profile is listed without its results, and its networks may have millions of weights."""

    class Unstored:
        def __iter__(self):
            raise KeyError("no weights are stored")

    def problem(context):
        pytest.fail("the network was built before its weights were asked for")

    with pytest.raises(KeyError):
        sharpness_at(SimpleNamespace(problem=problem), Unstored())
