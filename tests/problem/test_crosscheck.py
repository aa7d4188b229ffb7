"""Loss, gradient and Hessian against curvlinops 3.0.1, an independent library."""

import pytest
import torch
from torch import nn

import gfm

#: Relative error of a whole matrix: some roundings of float64.
ROUNDING = 1e-14


@pytest.fixture(scope="module")
def curvlinops():
    """The library that ``make env`` installs; in an environment made otherwise it may be missing."""
    return pytest.importorskip("curvlinops", reason="curvlinops is not installed: make env installs it")


@pytest.fixture(params=["mse", "cross_entropy"])
def both(request, curvlinops):
    """Our problem, their Hessian and Gauss-Newton matrix, and what theirs are to be multiplied with."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)).double()
    x = torch.randn(20, 5, dtype=torch.float64)
    if request.param == "cross_entropy":
        y, theirs, factor = torch.randint(3, (20,)), nn.CrossEntropyLoss(), 1.0
    else:
        # Half the summed square, averaged over examples: 3/2 of torch's mean over all numbers.
        y, theirs, factor = torch.randn(20, 3, dtype=torch.float64), nn.MSELoss(), 1.5
    arguments = net, theirs, list(net.parameters()), [(x[:12], y[:12]), (x[12:], y[12:])]
    hessian = curvlinops.HessianLinearOperator(*arguments)
    gauss_newton = curvlinops.GGNLinearOperator(*arguments)
    return gfm.Problem(net, x, y, request.param), hessian, gauss_newton, factor


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


def test_hessian_products_agree_with_curvlinops(both):
    problem, hessian, gauss_newton, factor = both
    unit = torch.eye(problem.p, dtype=torch.float64)
    found, expected = problem.hvp(problem.w0, unit), hessian @ unit
    assert error(found, factor * expected) < ROUNDING
    # It tells apart: a factor that is a little wrong, and a Hessian without the network's own curvature.
    assert error(found, factor * (1 + 1e-13) * expected) > ROUNDING
    assert error(found, factor * (gauss_newton @ unit)) > 0.1


def test_loss_and_gradient_agree_with_curvlinops(both):
    problem, hessian, _, factor = both
    gradients, loss = hessian.gradient_and_loss()
    expected = torch.cat([g.flatten() for g in gradients])
    found = problem.gradient(problem.w0)
    assert error(found, factor * expected) < ROUNDING
    assert error(found, factor * (1 + 1e-13) * expected) > ROUNDING
    assert float(problem.loss(problem.w0)) == pytest.approx(factor * float(loss), rel=ROUNDING)
