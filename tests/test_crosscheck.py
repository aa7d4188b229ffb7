"""Our derivatives against curvlinops, an independent library (optional: pip install curvlinops-for-pytorch)."""

import pytest
import torch
from torch import nn

import gfm

curvlinops = pytest.importorskip("curvlinops", reason="optional: pip install curvlinops-for-pytorch")


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_hessian_products_agree_with_curvlinops(loss):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 3)).double()
    x = torch.randn(20, 5, dtype=torch.float64)
    y = torch.randint(3, (20,)) if loss == "cross_entropy" else torch.randn(20, 3, dtype=torch.float64)
    problem = gfm.Problem(net, x, y, loss)
    # Half the summed square, averaged over examples: 3/2 of torch's mean over all numbers.
    theirs, factor = (nn.CrossEntropyLoss(), 1.0) if loss == "cross_entropy" else (nn.MSELoss(), 1.5)
    hessian = curvlinops.HessianLinearOperator(net, theirs, list(net.parameters()), [(x, y)])
    v = torch.randn(problem.p, dtype=torch.float64)
    expected = factor * (hessian @ v)
    found = problem.hvp(problem.w0, v)
    assert float((found - expected).norm() / expected.norm()) < 1e-12
