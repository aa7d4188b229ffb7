"""A small network with a function inside that tests vary, and the right values of a problem's derivatives."""

import functools

import torch
from torch import nn
from torch.nn import functional as F

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
#: A loss that computes in float32 only.
NARROW = functools.partial(F.cross_entropy, weight=WEIGHTS)


class Net(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, between=torch.tanh, hidden=6, dtype=torch.float64):
        super().__init__()
        self.first, self.last, self.between = nn.Linear(4, hidden), nn.Linear(hidden, 3), between
        self.to(dtype)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


def data(n=12, dtype=torch.float64):
    return torch.randn(n, 4, dtype=dtype), torch.randint(0, 3, (n,))


def away(problem):
    return problem.w0 + 0.3 * torch.randn_like(problem.w0)


def holds(problem, truth, atol=1e-9):
    """Loss, gradient, products with one and three vectors, third derivatives: those of ``truth`` (float64)."""
    w = away(problem)
    V = torch.randn(problem.p, 3, dtype=torch.float64)
    leaf = w.double().requires_grad_()
    g = torch.autograd.functional.jacobian(truth, leaf)
    H = torch.autograd.functional.hessian(truth, leaf)
    bend = torch.autograd.functional.hessian(
        lambda z: torch.autograd.functional.jvp(truth, z, V[:, 0], create_graph=True)[1], leaf) @ V[:, 1]
    V = V.to(w.dtype)
    pairs = [
        (problem.loss(w), truth(leaf)), (problem.at(w).loss, truth(leaf)), (problem.gradient(w), g),
        (problem.hvp(w, V[:, 0]), H @ leaf.new_tensor(V[:, 0].tolist())), (problem.hvp(w, V), H @ V.double()),
        (problem.third(w, V[:, 0], V[:, 1]), bend),
    ]
    for found, right in pairs:
        right = right.detach()
        assert float((found.double() - right).norm()) <= atol * (1 + float(right.norm()))
    return True


def outputs_of(problem, x):
    return lambda w: torch.func.functional_call(problem.module, problem.flat.views(w), (x,))
