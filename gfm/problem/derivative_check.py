"""A check on a few examples that the derivatives of a new problem exist and are right.

Some operations of torch (fused norms, weight norm, attention kernels) lack second or third derivatives, or have
wrong ones, and a module may hide weights from autograd (``no_grad``, ``detach``, activation checkpointing). A module's
structure does not reveal them if its ``forward`` calls them as functions. So the derivatives themselves are tested, at
weights some way from the module's own: each must be the rate at which the derivative below it changes, and the second
and third must be symmetric. They are computed in float64 if the module and its loss can be computed with float64
weights, buffers and data. Otherwise the first derivative is compared with differences in the module's own dtype, and
the others are tested for symmetry only if the loss has kinks (ReLU), since steps as large as float32 needs would cross
them. The first derivative is also tested on all examples.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.problem.differences import STEPS, DifferenceError, Point, mixed, slope_at
from gfm.problem.inspection import KINKS, WRONG, Loss, fixed_value, gradient_and_rerun, narrowest, operations
from gfm.problem.supported import explained
from gfm.randomness import restoring

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["check", "check_problem", "check_whole"]

#: Number of points tried: the long steps of float32 may all cross one kink, but a wrong formula fails at every point.
_POINTS = {torch.float64: 1, torch.float32: 3}


def check_problem(problem: "Problem", few: int) -> torch.dtype:
    """Check the derivatives up to the third of a problem's loss on ``few`` examples spread over the data.

    Sets ``problem.objective.plain_attention`` if torch's fast attention kernels, which can be differentiated only
    once, prevent the check. A module of more than ``problem.exact_limit`` weights is checked in its own dtype.

    Returns:
        The dtype in which the derivatives were examined.

    Raises:
        InputError: The loss cannot be computed, is not finite, does not depend on the weights, cannot be differentiated
            often enough, or is differentiated wrongly by torch.
    """
    w0 = problem.w0

    def loss(w: Tensor) -> Tensor:
        """The loss of the few examples, computed in the dtype of ``w``."""
        return problem.piece_loss(w, inputs, targets)

    with restoring(problem.device):
        for count in (few, 64):  # more examples if too few of them count in the loss
            rows = torch.linspace(0, problem.n - 1, min(count, problem.n)).round().long().to(problem.device)
            inputs, targets = problem.inputs[rows], problem.targets[rows]
            with explained("The loss cannot be computed"):
                leaf = w0.clone().requires_grad_()
                value = fixed_value(problem, loss, leaf)
            if torch.isfinite(value):
                break
        else:
            raise InputError(f"The loss of {len(rows)} examples is {float(value.detach())} at the module's weights.")
        if not value.requires_grad:
            raise InputError(
                "The loss does not depend on the module's weights: its outputs are detached or computed without "
                "gradients; take the detach() or no_grad() out of its forward."
            )
        with explained("The loss cannot be differentiated"):
            slope, again = gradient_and_rerun(value, leaf)
        if again:
            raise InputError(
                f"The module runs {again} once more in the backward pass (activation checkpointing), when it has its "
                "own weights again and not those at which the gradient is computed; switch the checkpointing off."
            )
        if not torch.isfinite(slope).all():
            raise InputError(f"The gradient of the loss of {len(rows)} examples is not finite at the module's weights.")
        w, precision = _widest(loss, w0, problem.p <= problem.exact_limit)
        with explained("The loss cannot be differentiated often enough"):
            try:
                check(loss, w, precision)
            except (RuntimeError, NotImplementedError) as failure:
                problem.objective.plain_attention = "attention" in str(failure)
                check(loss, w, precision)  # raises the error again if attention was not its cause
        with explained("The loss cannot be computed"):
            problem.objective.settle(w0, inputs, targets)
    return precision


def _widest(loss: Loss, w: Tensor, exact: bool) -> tuple[Tensor, torch.dtype]:
    """The weights, in float64 if the whole loss can be computed in it, and the precision that the loss then has."""
    own = narrowest(loss, w)
    if own not in STEPS:
        raise InputError(
            f"The module or its loss computes in {str(own).removeprefix('torch.')} in places (autocast, or a cast), "
            "which is too coarse for second and third derivatives; compute in float32 or float64."
        )
    if exact:
        try:
            if narrowest(loss, w.double()) == torch.float64:
                return w.double(), torch.float64
        except Exception:  # a user's code may raise anything; it computes only in its own dtype
            return w, own
    return w, own


def check(loss: Loss, w: Tensor, precision: torch.dtype) -> None:
    """Check the derivatives of a scalar ``loss`` of w (p,) near the given weights.

    The check costs about thirty gradients of the loss, which is computed in ``precision``. The loss may have kinks
    (ReLU), and any of its derivatives may vanish; cases that finite differences cannot decide are accepted. If a
    derivative does not exist, torch's own exception is raised.

    Raises:
        InputError: A derivative is not finite, is not symmetric, or is not the rate of change of the one below it.
    """
    doubts = [_doubt(_check_at, loss, w, precision, seed) for seed in range(_POINTS[precision])]
    if all(doubts):
        raise InputError(doubts[0])


def _doubt(check: Callable[..., None], *arguments: Any) -> str:
    """How a derivative disagrees with differences at one point; empty if it agrees."""
    try:
        check(*arguments)
    except DifferenceError as failure:
        return str(failure)
    return ""


def _check_at(loss: Loss, w: Tensor, precision: torch.dtype, seed: int) -> None:
    """Check the derivatives at one random point near w."""
    point = Point(loss, w, precision, seed)
    leaf, slope, w, flat = point.leaf, point.slope, point.w, point.slope.detach()
    u, v = point.random(w), point.random(w)
    for along in (point.random(w), mixed(point.random(w), w), mixed(point.random(w), flat)):
        point.compare(0, float(flat @ along), float(point.value), lambda z: float(loss(z).detach()), along)
    if not slope.requires_grad:
        return  # a loss that is linear in the weights
    u, v = mixed(u, flat), mixed(v, flat)  # partly along the gradient, where derivatives are large
    Hu, Hv = _product(slope, leaf, u, graph=True), _product(slope, leaf, v, graph=True)
    point.finite(1, Hv)
    point.symmetric(1, [(u, Hv), (v, Hu)])
    third = _derivative(Hv, leaf, u)
    point.finite(2, third)
    if precision != torch.float64:
        a = point.random(w)
        point.symmetric(2, [(a, third), (u, _derivative(Hv, leaf, a)), (v, _derivative(Hu, leaf, a))])
        names = operations(loss(leaf))
        if wrong := next((name for name in names if name.startswith(WRONG)), ""):
            raise InputError(f"torch's third derivatives of {wrong.partition('Backward')[0]} are wrong{point.seen()}.")
        if any(kink in name for name in names for kink in KINKS):
            return
    bent = Hv.detach()
    point.compare(1, float(u @ bent), float(flat @ u), lambda z: float(slope_at(loss, z)[2].detach() @ u), v,
                  float(flat.norm()))
    along = third if third.norm() > 0 else point.random(w)

    def form(z: Tensor) -> float:
        near, _, slope = slope_at(loss, z)
        return float(u @ _product(slope, near, v)) if slope.requires_grad else 0.0

    along = along / along.norm()
    before = float(u @ bent)
    point.compare(2, float(third @ along), before, form, along, max(float(bent.norm()), abs(before)))


def check_whole(problem: "Problem") -> None:
    """Check on all examples that derivatives up to the second are finite at the start, and the first right near it.

    The first is compared in float64 if the few examples were examined in float64.

    Raises:
        InputError: A derivative is wrong, not finite, or cannot be computed.
    """
    precision = problem.examined
    start = problem.w0.double() if precision == torch.float64 else problem.w0

    def evaluate(z: Tensor, gradient: bool = True) -> tuple[Tensor, Tensor]:
        leaf = z.detach().clone().requires_grad_()
        value, slope = leaf.new_zeros(()), torch.zeros_like(leaf).detach()
        for inputs, targets, share in problem.pieces():
            part = problem.piece_loss(leaf, inputs, targets)
            value += share * part.detach()
            if gradient:
                slope += share * torch.autograd.grad(part, leaf)[0]
        return value, slope

    def check_at(seed: int) -> None:
        point = Point(lambda z: evaluate(z, False)[0], start, precision, seed, evaluate)
        along = mixed(point.random(point.w), point.slope)
        said, value = float(point.slope @ along), float(point.value)
        point.compare(0, said, value, lambda z: float(evaluate(z, False)[0]), along)

    with restoring(problem.device), explained("The loss of all examples cannot be differentiated"):
        value, slope = problem.value_and_gradient(problem.w0)
        product = problem.hvp(problem.w0, torch.ones_like(problem.w0) / problem.p**0.5)
        for name, found in (("loss", value), ("gradient of the loss", slope), ("Hessian of the loss", product)):
            if not torch.isfinite(found).all():
                raise InputError(f"The {name} of all examples is not finite at the module's weights.")
        doubt = ""
        for seed in range(_POINTS[precision]):  # one point at which it is right is enough
            if not (doubt := _doubt(check_at, seed)):
                return
        raise InputError(doubt)


def _product(slope: Tensor, leaf: Tensor, v: Tensor, graph: bool = False) -> Tensor:
    return torch.autograd.grad(slope, leaf, v, create_graph=graph, retain_graph=True, materialize_grads=True)[0]


def _derivative(image: Tensor, leaf: Tensor, u: Tensor) -> Tensor:
    """The gradient (p,) of u^T image; zero if the image does not depend on the weights."""
    return _product(image, leaf, u) if image.requires_grad else torch.zeros_like(u)
