"""One look at a new problem's derivatives on a few examples: are they there, and are they right?

Some operations of torch (fused norms, weight norm, attention kernels) lack second or third derivatives, or
have wrong ones. Nothing in a module's structure tells, if its ``forward`` calls them as functions. So
the Hessian H must be symmetric here, u^T H v = v^T H u, and the third derivative must be
what u^T H(w) v changes by. The derivatives are taken in float64 near the start; where the module
computes in its own dtype only, the symmetry alone is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gfm.errors import InputError

__all__ = ["check", "same_random_numbers", "sentence"]

#: Steps of the finite differences, in units of a typical weight: so small that hardly a kink is crossed.
_STEPS = (1e-6, 1e-7)


def check(loss: Callable[[Tensor], Tensor], w: Tensor) -> None:
    """Look at a scalar ``loss`` of w (p,) near the given one.

    It costs about ten gradients of that loss. The loss may have kinks (ReLU) and any of its derivatives
    may vanish: what finite differences cannot settle is let pass.

    Raises:
        InputError: a derivative does not exist, the Hessian is not symmetric, or the third derivative is wrong.
    """
    draw = torch.Generator(device="cpu").manual_seed(0)

    def random() -> Tensor:
        row = torch.randn(w.shape[0], generator=draw, dtype=torch.float64)
        return (row / row.norm()).to(w)

    size = float(w.square().mean().sqrt()) or 1.0
    # Beside the start: there, weights that are exactly zero would hide derivatives, or sit on a kink.
    w = w + 0.01 * size * w.shape[0] ** 0.5 * random()
    leaf, slope = _slope(loss, w)
    if not slope.requires_grad:
        return  # a loss that is linear in the weights
    u, v = random(), random()
    if slope.norm() > 0:  # half along the gradient, where derivatives are large
        u, v = (0.7 * row + 0.7 * slope.detach() / slope.detach().norm() for row in (u, v))
    Hu, Hv = _product(slope, leaf, u), _product(slope, leaf, v, graph=True)
    _symmetry(u, v, Hu.detach(), Hv.detach())
    if w.dtype == torch.float64:
        _third(loss, leaf, u, v, Hv, size, random)


def _symmetry(u: Tensor, v: Tensor, Hu: Tensor, Hv: Tensor) -> None:
    one, other = float(u @ Hv), float(v @ Hu)
    usual = float(Hu.norm() + Hv.norm()) / (2 * u.shape[0] ** 0.5)
    tolerance = 1e-5 if u.dtype == torch.float64 else 0.1
    if abs(one - other) > tolerance * max(usual, abs(one), abs(other)):
        raise InputError(
            f"torch's second derivatives of this module are wrong: u'Hv is {one:.3g} but v'Hu is {other:.3g}; it "
            "uses an operation without right ones (weight_norm, say): write that out in plain tensor operations"
        )


def _third(loss: Callable[[Tensor], Tensor], leaf: Tensor, u: Tensor, v: Tensor, Hv: Tensor, size: float,
           random: Callable[[], Tensor]) -> None:
    third = torch.zeros_like(u)
    if Hv.requires_grad:
        (found,) = torch.autograd.grad(Hv, leaf, u, allow_unused=True)
        third = third if found is None else found
    along = third if third.norm() > 0 else random()
    along = along / along.norm()
    said, before, w = float(third @ along), float(u @ Hv.detach()), leaf.detach()
    noise = 1e-13 * max(float(Hv.detach().norm()), abs(before))

    def measured(step: float) -> float:
        near, slope = _slope(loss, w + step * along)
        return (float(u @ _product(slope, near, v)) - before) / step if slope.requires_grad else -before / step

    wrong = []
    for step in _STEPS:
        for signed in (step, -step):
            signed *= size / float(along.abs().max())
            difference = measured(signed) - said
            if not abs(difference) > max(2e-4 * abs(said), 20 * noise / abs(signed)):
                return
            wrong.append(difference)
    # A kink between the points gives differences that change with step and sign; a wrong formula one number.
    if max(wrong) - min(wrong) < 0.1 * abs(sum(wrong) / len(wrong)):
        raise InputError(
            f"torch's third derivatives of this module are wrong: {said:.3g} where differences of its Hessian give "
            f"{said + sum(wrong) / len(wrong):.3g}; it calls a fused operation (F.layer_norm, say): use the norms of "
            "gfm.nets.norms or write it out in plain tensor operations"
        )


def _slope(loss: Callable[[Tensor], Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    leaf = w.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    return leaf, slope


def _product(slope: Tensor, leaf: Tensor, v: Tensor, graph: bool = False) -> Tensor:
    (image,) = torch.autograd.grad(slope, leaf, v, create_graph=graph, retain_graph=True, allow_unused=True)
    return torch.zeros_like(v) if image is None else image


def sentence(failure: BaseException) -> str:
    """The first line of what an exception says, or its kind where it says nothing."""
    lines = str(failure).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(failure).__name__


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Random numbers drawn in this context leave the generators as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
