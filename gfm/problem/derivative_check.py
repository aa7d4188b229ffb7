"""A check on a few examples that a new problem's derivatives exist and are right.

Some operations of torch (fused norms, weight norm, attention kernels) lack second or third derivatives, or have
wrong ones. A module's structure does not reveal them if its ``forward`` calls them as functions. So the
derivatives themselves are tested: the Hessian H must be symmetric, u^T H v = v^T H u, and the third derivative must
be the rate at which u^T H(w) v changes. They are computed in float64 near the start; if the module works only in
its own dtype, only symmetry is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.problem.supported import explained, same_random_numbers

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["check", "check_problem"]

#: Steps of the finite differences, in units of a typical weight: small enough to cross hardly any kink.
_STEPS = (1e-6, 1e-7)


def check_problem(problem: Problem, few: int) -> None:
    """Check the second and third derivatives of a problem's loss on its first ``few`` examples.

    Sets ``problem.plain_attention`` if torch's fast attention kernels, which can be differentiated only once,
    prevent the check. A float32 module of more than ``problem.exact_limit`` weights is checked in float32, without
    its third derivatives.

    Raises:
        InputError: The loss cannot be computed, does not depend on the weights, cannot be differentiated often
            enough, or is differentiated wrongly by torch.
    """
    inputs, targets, w0 = problem.inputs[:few], problem.targets[:few], problem.w0
    buffers = dict(problem.module.named_buffers())

    def loss(w: Tensor) -> Tensor:
        """The mean loss, computed in the dtype of ``w``."""

        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(w.dtype) if tensor.is_floating_point() else tensor

        values = {**{name: cast(b) for name, b in buffers.items()}, **problem.flat.views(w)}
        with problem.attention():
            outputs = torch.func.functional_call(problem.module, values, (cast(inputs),))
        return problem.row_loss(outputs, cast(targets)).mean()

    with same_random_numbers(problem.device):
        with explained("the loss cannot be computed"):
            value = loss(w0.clone().requires_grad_())
        if not value.requires_grad:
            raise InputError(
                "the loss does not depend on the module's weights: its outputs are detached or computed without "
                "gradients; take the detach() or no_grad() out of its forward"
            )
        exact = w0.double() if problem.p <= problem.exact_limit else w0
        try:
            with torch.no_grad():
                w = exact.to(loss(exact).dtype)
        except Exception:  # the module works only in its own dtype
            w = w0
        with explained("the loss cannot be differentiated often enough"):
            try:
                check(loss, w)
            except (RuntimeError, NotImplementedError) as failure:
                problem.plain_attention = "attention" in str(failure)
                check(loss, w)  # fails again if attention was not the reason


def check(loss: Callable[[Tensor], Tensor], w: Tensor) -> None:
    """Check the derivatives of a scalar ``loss`` of w (p,) near the given weights.

    The check costs about ten gradients of the loss. The loss may have kinks (ReLU), and any of its derivatives may
    vanish; cases that finite differences cannot decide are accepted. If a derivative does not exist, torch's own
    exception is raised.

    Raises:
        InputError: The Hessian is not symmetric, or the third derivative is wrong.
    """
    draw = torch.Generator(device="cpu").manual_seed(0)

    def random() -> Tensor:
        row = torch.randn(w.shape[0], generator=draw, dtype=torch.float64)
        return (row / row.norm()).to(w)

    size = float(w.square().mean().sqrt()) or 1.0
    # Not at the start itself, where weights that are exactly zero could hide derivatives or lie on a kink.
    w = w + 0.01 * size * w.shape[0] ** 0.5 * random()
    leaf, slope = _slope(loss, w)
    if not slope.requires_grad:
        return  # a loss that is linear in the weights
    u, v = random(), random()
    if slope.norm() > 0:  # partly along the gradient, where derivatives are large
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


def _third(
    loss: Callable[[Tensor], Tensor], leaf: Tensor, u: Tensor, v: Tensor, Hv: Tensor, size: float,
    random: Callable[[], Tensor],
) -> None:
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
    # With a kink between the points the differences depend on step and sign; with a wrong formula they do not.
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
