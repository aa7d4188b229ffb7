"""One loss of a flat weight vector, with its derivatives by autograd and by central differences."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gfm.problem.flat import Flat

Loss = Callable[[Tensor], Tensor]


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum() / len(outputs)


def flat_loss(module: nn.Module, inputs: Tensor, loss=None, seed: int = 1) -> tuple[Loss, Tensor]:
    """The loss against fixed random targets, and weights near the module's own (no zero gains)."""
    flat = Flat(module)
    stream = torch.Generator().manual_seed(seed)
    w = flat.flatten(module)
    w = w + 0.2 * torch.randn(w.shape, generator=stream, dtype=w.dtype)
    shape = module(inputs).shape
    targets = torch.randn(shape, generator=stream, dtype=w.dtype)
    loss = loss or half_square
    return (lambda v: loss(functional_call(module, flat.views(v), (inputs,)), targets)), w


def directions(w: Tensor, count: int = 2, seed: int = 2) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    v = torch.randn(count, len(w), generator=stream, dtype=w.dtype)
    return v / v.norm(dim=1, keepdim=True)


def gradient(loss: Loss, w: Tensor) -> Tensor:
    w = w.detach().requires_grad_()
    return torch.autograd.grad(loss(w), w)[0]


def hvp(loss: Loss, w: Tensor, u: Tensor) -> Tensor:
    w = w.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    return torch.autograd.grad(g, w, u)[0]


def third(loss: Loss, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Gradient of u^T H(w) v by three backward passes."""
    w = w.detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(w), w, create_graph=True)
    (hu,) = torch.autograd.grad(g, w, u, create_graph=True)
    return torch.autograd.grad(hu, w, v)[0]


def difference(f: Callable[[Tensor], Tensor], w: Tensor, v: Tensor, h: float = 1e-4) -> Tensor:
    """Derivative of f along v at w, by the five-point rule: error of order h^4."""
    near = f(w + h * v) - f(w - h * v)
    far = f(w + 2 * h * v) - f(w - 2 * h * v)
    return (8 * near - far) / (12 * h)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
