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

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.problem.inspection import KINKS, WRONG, Loss, fixed_value, gradient_and_rerun, narrowest, operations, seen
from gfm.problem.supported import explained
from gfm.randomness import restoring

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["check", "check_problem", "check_whole"]

#: Steps of the finite differences, in units of a typical weight: in float64 so small that they cross hardly any kink.
_STEPS = {torch.float64: (1e-6, 1e-7), torch.float32: (2e-2, 1e-2, 5e-3)}
#: Relative error of a derivative that differences over these steps can show.
_VISIBLE = {torch.float64: 2e-4, torch.float32: 1e-2}
#: Relative rounding of a loss or of a derivative.
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6}
#: Derivatives smaller than this share of loss per typical weight count as rounding.
_FLOOR = {torch.float64: 1e-12, torch.float32: 1e-6}
#: Number of points tried: the long steps of float32 may all cross one kink, but a wrong formula fails at every point.
_POINTS = {torch.float64: 1, torch.float32: 3}
#: Distance from the module's own weights, in units of a typical weight, of the point where derivatives are tested.
_AWAY = (0.1, 0.01, 0.001)
_ORDERS = ("first", "second", "third")


def check_problem(problem: Problem, few: int) -> torch.dtype:
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
    if own not in _STEPS:
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
    except _DifferenceError as failure:
        return str(failure)
    return ""


class _DifferenceError(InputError):
    """A derivative disagrees with differences at one point."""


class _Point:
    """A random point near w with random directions, and the loss there."""

    def __init__(
        self, loss: Loss, w: Tensor, precision: torch.dtype, seed: int,
        evaluate: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ):
        self.loss, self.precision = loss, precision
        self._draw = torch.Generator(device="cpu").manual_seed(seed)
        self.size = float(w.square().mean().sqrt()) or 1.0
        away = self.size * w.shape[0] ** 0.5 * self.random(w)
        # Away from the start, where weights that are exactly zero could hide derivatives or lie on a kink.
        for share in _AWAY:
            self.leaf = w + share * away
            if evaluate is None:
                self.leaf, self.value, self.slope = _slope(loss, self.leaf)
            else:
                self.value, self.slope = evaluate(self.leaf)
            if torch.isfinite(self.value) and torch.isfinite(self.slope).all():
                break
        else:
            raise InputError(f"The loss or its gradient is not finite {_AWAY[-1]:.1%} away from the module's weights.")
        self.w = self.leaf.detach()

    def random(self, like: Tensor) -> Tensor:
        """A random direction (p,) of length 1."""
        row = torch.randn(like.shape[0], generator=self._draw, dtype=torch.float64)
        return (row / row.norm()).to(like)

    def seen(self) -> str:
        return seen(self.loss, self.w)

    def floor(self, order: int) -> float:
        """The size up to which a derivative along unit directions counts as rounding."""
        scale = self.size * self.w.shape[0] ** 0.5
        return _FLOOR[self.precision] * abs(float(self.value)) / scale ** (order + 1)


def _check_at(loss: Loss, w: Tensor, precision: torch.dtype, seed: int) -> None:
    """Check the derivatives at one random point near w."""
    point = _Point(loss, w, precision, seed)
    leaf, slope, w, flat = point.leaf, point.slope, point.w, point.slope.detach()
    u, v = point.random(w), point.random(w)
    for along in (point.random(w), _mixed(point.random(w), w), _mixed(point.random(w), flat)):
        _compare(point, 0, float(flat @ along), float(point.value), lambda z: float(loss(z).detach()), along)
    if not slope.requires_grad:
        return  # a loss that is linear in the weights
    u, v = _mixed(u, flat), _mixed(v, flat)  # partly along the gradient, where derivatives are large
    Hu, Hv = _product(slope, leaf, u, graph=True), _product(slope, leaf, v, graph=True)
    _finite(point, 1, Hv)
    _symmetric(point, 1, [(u, Hv), (v, Hu)])
    third = _derivative(Hv, leaf, u)
    _finite(point, 2, third)
    if precision != torch.float64:
        a = point.random(w)
        _symmetric(point, 2, [(a, third), (u, _derivative(Hv, leaf, a)), (v, _derivative(Hu, leaf, a))])
        names = operations(loss(leaf))
        if wrong := next((name for name in names if name.startswith(WRONG)), ""):
            raise InputError(f"torch's third derivatives of {wrong.partition('Backward')[0]} are wrong{point.seen()}.")
        if any(kink in name for name in names for kink in KINKS):
            return
    bent = Hv.detach()
    _compare(point, 1, float(u @ bent), float(flat @ u), lambda z: float(_slope(loss, z)[2].detach() @ u), v,
             float(flat.norm()))
    along = third if third.norm() > 0 else point.random(w)

    def form(z: Tensor) -> float:
        near, _, slope = _slope(loss, z)
        return float(u @ _product(slope, near, v)) if slope.requires_grad else 0.0

    along = along / along.norm()
    before = float(u @ bent)
    _compare(point, 2, float(third @ along), before, form, along, max(float(bent.norm()), abs(before)))


def check_whole(problem: Problem) -> None:
    """Check on all examples that derivatives up to the second are finite at the start, and the first right near it.

    The first is compared in float64 if the few examples were examined in float64.

    Raises:
        InputError: They are not, or cannot be computed.
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
        point = _Point(lambda z: evaluate(z, False)[0], start, precision, seed, evaluate)
        along = _mixed(point.random(point.w), point.slope)
        said, value = float(point.slope @ along), float(point.value)
        _compare(point, 0, said, value, lambda z: float(evaluate(z, False)[0]), along)

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


def _slope(loss: Loss, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leaf, value and gradient with a graph."""
    leaf = w.detach().clone().requires_grad_()
    value = loss(leaf)
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    return leaf, value.detach(), slope


def _product(slope: Tensor, leaf: Tensor, v: Tensor, graph: bool = False) -> Tensor:
    return torch.autograd.grad(slope, leaf, v, create_graph=graph, retain_graph=True, materialize_grads=True)[0]


def _derivative(image: Tensor, leaf: Tensor, u: Tensor) -> Tensor:
    """The gradient (p,) of u^T image; zero if the image does not depend on the weights."""
    return _product(image, leaf, u) if image.requires_grad else torch.zeros_like(u)


def _mixed(row: Tensor, other: Tensor) -> Tensor:
    """A direction between the two; the first if they cancel."""
    mixed = row + other / other.norm() if other.norm() > 0 else row
    return mixed / mixed.norm() if mixed.norm() > 0.1 else row


def _finite(point: _Point, order: int, derivative: Tensor) -> None:
    if not torch.isfinite(derivative).all():
        raise InputError(f"torch's {_ORDERS[order]} derivatives of this module are not finite{point.seen()}.")


def _symmetric(point: _Point, order: int, forms: list[tuple[Tensor, Tensor]]) -> None:
    """The same form computed by several ways: pairs (direction, derivative) whose products must agree."""
    values = [float(row @ derivative.detach()) for row, derivative in forms]
    usual = sum(float(derivative.detach().norm()) for _, derivative in forms) / (len(forms) * len(point.w) ** 0.5)
    tolerance = 1e-5 if point.precision == torch.float64 else 0.02
    if max(values) - min(values) > max(tolerance * max(usual, *map(abs, values)), point.floor(order)):
        told = " and ".join(f"{value:.3g}" for value in values)
        raise InputError(
            f"torch's {_ORDERS[order]} derivatives of this module are wrong: taken in another order of directions, the "
            f"same one is {told}{point.seen()}."
        )


def _compare(
    point: _Point, order: int, said: float, before: float, form: Callable[[Tensor], float], along: Tensor,
    scale: float | None = None,
) -> None:
    """Compare a derivative along a direction with differences of the form below it, whose value at w is ``before``."""
    noise = _ROUNDING[point.precision] * (abs(before) if scale is None else scale)
    wrong = []
    for step in _STEPS[point.precision]:
        step *= point.size / float(along.abs().max())
        if not 0.0 < step < inf:  # the derivatives are too large or too small for differences
            return
        ahead, behind = ((form(point.w + signed * along) - before) / signed for signed in (step, -step))
        # The loss itself does not jump, nor do derivatives without kinks (others are not compared in float32): there
        # the differences on both sides are averaged.
        averaged = order == 0 or point.precision != torch.float64
        for value in ((ahead + behind) / 2,) if averaged else (ahead, behind):
            if abs(value - said) <= max(_VISIBLE[point.precision] * abs(said), 20 * noise / step, point.floor(order)):
                return
            wrong.append(value - said)
    # With a kink between the points the differences depend on step and sign; with a wrong formula they do not.
    if not max(wrong) - min(wrong) >= 0.1 * abs(sum(wrong) / len(wrong)):
        found = ("of the loss give", "of its gradient give", "of its Hessian give")[order]
        raise _DifferenceError(
            f"torch's {_ORDERS[order]} derivatives of this module are wrong: {said:.3g} where differences {found} "
            f"{said + sum(wrong) / len(wrong):.3g}{point.seen()}."
        )
