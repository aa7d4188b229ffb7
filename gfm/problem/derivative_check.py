"""A check on a few examples that a new problem's derivatives exist and are right.

Some operations of torch (fused norms, weight norm, attention kernels) lack second or third derivatives, or have
wrong ones, and a module may hide weights from autograd (``no_grad``, ``detach``, activation checkpointing). A module's
structure does not reveal them if its ``forward`` calls them as functions. So the derivatives themselves are tested, at
weights some way from the module's own: each must be the rate at which the derivative below it changes, and the second
and third must be symmetric. They are computed in float64 if the module and its loss can be computed with float64
weights, buffers and data. Otherwise the first derivative is compared with differences in the module's own dtype, and
the others are tested for symmetry only: differences over steps as large as float32 needs would cross kinks (ReLU).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook

from gfm.errors import InputError
from gfm.problem.supported import explained, same_random_numbers

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["check", "check_problem", "many_vectors"]

Loss = Callable[[Tensor], Tensor]

#: Steps of the finite differences, in units of a typical weight: in float64 so small that they cross hardly any kink.
_STEPS = {torch.float64: (1e-6, 1e-7), torch.float32: (2e-2, 1e-2, 5e-3)}
#: Relative error of a derivative that differences over these steps can show.
_VISIBLE = {torch.float64: 2e-4, torch.float32: 1e-2}
#: Relative rounding of a loss, or of a derivative (in float64 only).
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6}
#: Distance from the module's own weights, in units of a typical weight, of the point where derivatives are tested.
_AWAY = (0.1, 0.01, 0.001)
_ORDERS = ("first", "second", "third")


def check_problem(problem: Problem, few: int) -> torch.dtype:
    """Check the derivatives up to the third of a problem's loss on its first ``few`` examples.

    Sets ``problem.objective.plain_attention`` if torch's fast attention kernels, which can be differentiated only
    once, prevent the check. A module of more than ``problem.exact_limit`` weights is checked in its own dtype.

    Returns:
        The dtype in which the derivatives were examined.

    Raises:
        InputError: The loss cannot be computed, is not finite, does not depend on the weights, cannot be differentiated
            often enough, or is differentiated wrongly by torch.
    """
    inputs, targets, w0 = problem.inputs[:few], problem.targets[:few], problem.w0

    def loss(w: Tensor) -> Tensor:
        """The loss of the few examples, computed in the dtype of ``w``."""
        return problem.piece_loss(w, inputs, targets)

    with same_random_numbers(problem.device):
        leaf = w0.clone().requires_grad_()
        with explained("the loss cannot be computed"):
            value = loss(leaf)
        if not value.requires_grad:
            raise InputError(
                "the loss does not depend on the module's weights: its outputs are detached or computed without "
                "gradients; take the detach() or no_grad() out of its forward"
            )
        if not torch.isfinite(value):
            raise InputError(f"the loss of the first {len(inputs)} examples is {float(value)} at the module's weights")
        with explained("the loss cannot be differentiated"):
            slope, again = _seen_backward(value, leaf)
        if again:
            raise InputError(
                f"the module runs {again} once more in the backward pass (activation checkpointing), when it has its "
                "own weights again and not those at which the gradient is computed; switch the checkpointing off"
            )
        if not torch.isfinite(slope).all():
            raise InputError(
                f"the gradient of the loss of the first {len(inputs)} examples is not finite at the module's weights"
            )
        w = _widest(loss, w0, problem.p <= problem.exact_limit)
        with explained("the loss cannot be differentiated often enough"):
            try:
                check(loss, w)
            except (RuntimeError, NotImplementedError) as failure:
                problem.objective.plain_attention = "attention" in str(failure)
                check(loss, w)  # fails again if attention was not the reason
    return w.dtype


def _seen_backward(value: Tensor, leaf: Tensor) -> tuple[Tensor, str]:
    """The gradient, and the kind of the first layer that runs again while it is computed ('' if none does)."""
    run: list[str] = []
    hook = register_module_forward_pre_hook(lambda layer, _: run.append(type(layer).__name__))
    try:
        (slope,) = torch.autograd.grad(value, leaf)
    finally:
        hook.remove()
    return slope, run[0] if run else ""


def _widest(loss: Loss, w: Tensor, exact: bool) -> Tensor:
    """The weights in float64 if the loss can be computed so, or else in their own dtype."""
    if not exact:
        return w
    try:
        with torch.no_grad():
            return w.to(torch.promote_types(loss(w.double()).dtype, w.dtype))
    except Exception:  # noqa: BLE001  a user's code may raise anything; it computes only in its own dtype
        return w


def check(loss: Loss, w: Tensor) -> None:
    """Check the derivatives of a scalar ``loss`` of w (p,) near the given weights.

    The check costs about twenty gradients of the loss. The loss may have kinks (ReLU), and any of its derivatives may
    vanish; cases that finite differences cannot decide are accepted. If a derivative does not exist, torch's own
    exception is raised.

    Raises:
        InputError: A derivative is not finite, is not symmetric, or is not the rate of change of the one below it.
    """
    # The long steps of float32 may all meet one kink; a wrong formula shows at every point.
    doubts = []
    points = 1 if w.dtype == torch.float64 else 3
    for seed in range(points):
        try:
            _check_at(loss, w, seed)
        except _DifferenceError as doubt:
            doubts.append(doubt)
    if len(doubts) == points:
        raise InputError(str(doubts[0]))


class _DifferenceError(InputError):
    """A derivative disagrees with differences at one point."""


def _check_at(loss: Loss, w: Tensor, seed: int) -> None:
    """Check the derivatives at one random point near w."""
    draw = torch.Generator(device="cpu").manual_seed(seed)

    def random() -> Tensor:
        row = torch.randn(w.shape[0], generator=draw, dtype=torch.float64)
        return (row / row.norm()).to(w)

    size = float(w.square().mean().sqrt()) or 1.0
    away = size * w.shape[0] ** 0.5 * random()
    # Not at the start itself, where weights that are exactly zero could hide derivatives or lie on a kink.
    for share in _AWAY:
        leaf, value, slope = _slope(loss, w + share * away)
        if torch.isfinite(value) and torch.isfinite(slope).all():
            break
    else:
        raise InputError(f"the loss or its gradient is not finite {_AWAY[-1]:.1%} away from the module's weights")
    w = leaf.detach()
    u, v = random(), random()
    flat = slope.detach()
    for along in (random(), _mixed(random(), w), _mixed(random(), flat)):
        _compare(0, float(flat @ along), float(value), lambda z: float(loss(z).detach()), w, along, size, loss)
    if not slope.requires_grad:
        return  # a loss that is linear in the weights
    u, v = _mixed(u, flat), _mixed(v, flat)  # partly along the gradient, where derivatives are large
    Hu, Hv = _product(slope, leaf, u, graph=True), _product(slope, leaf, v, graph=True)
    _finite(1, Hv, loss, w)
    _symmetric(1, [(u, Hv), (v, Hu)], loss, w)
    if w.dtype == torch.float64:
        said = float(u @ Hv.detach())
        _compare(1, said, float(flat @ u), lambda z: float(_slope(loss, z)[2].detach() @ u), w, v, size, loss)
    third = _derivative(Hv, leaf, u)
    _finite(2, third, loss, w)
    if w.dtype != torch.float64:
        a = random()
        _symmetric(2, [(a, third), (u, _derivative(Hv, leaf, a)), (v, _derivative(Hu, leaf, a))], loss, w)
        return
    along = third if third.norm() > 0 else random()

    def form(z: Tensor) -> float:
        near, _, slope = _slope(loss, z)
        return float(u @ _product(slope, near, v)) if slope.requires_grad else 0.0

    along = along / along.norm()
    Hv = Hv.detach()
    noise = max(float(Hv.norm()), abs(float(u @ Hv)))
    _compare(2, float(third @ along), float(u @ Hv), form, w, along, size, loss, noise)


def _slope(loss: Loss, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leaf, value and gradient with a graph."""
    leaf = w.detach().clone().requires_grad_()
    value = loss(leaf)
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    return leaf, value.detach(), slope


def _product(slope: Tensor, leaf: Tensor, v: Tensor, graph: bool = False) -> Tensor:
    (image,) = torch.autograd.grad(slope, leaf, v, create_graph=graph, retain_graph=True, allow_unused=True)
    return torch.zeros_like(v) if image is None else image


def _derivative(image: Tensor, leaf: Tensor, u: Tensor) -> Tensor:
    """The gradient (p,) of u^T image; zero if the image does not depend on the weights."""
    return _product(image, leaf, u) if image.requires_grad else torch.zeros_like(u)


def _mixed(row: Tensor, other: Tensor) -> Tensor:
    """A direction between the two; the first if they cancel."""
    mixed = row + other / other.norm() if other.norm() > 0 else row
    return mixed / mixed.norm() if mixed.norm() > 0.1 else row


def _finite(order: int, derivative: Tensor, loss: Loss, w: Tensor) -> None:
    if not torch.isfinite(derivative).all():
        raise InputError(f"torch's {_ORDERS[order]} derivatives of this module are not finite{_seen(loss, w)}")


def _symmetric(order: int, forms: list[tuple[Tensor, Tensor]], loss: Loss, w: Tensor) -> None:
    """The same form computed by several ways: pairs (direction, derivative) whose products must agree."""
    values = [float(row @ derivative.detach()) for row, derivative in forms]
    usual = sum(float(derivative.detach().norm()) for _, derivative in forms) / (len(forms) * w.shape[0] ** 0.5)
    tolerance = 1e-5 if w.dtype == torch.float64 else 0.02
    if max(values) - min(values) > tolerance * max(usual, *map(abs, values)):
        told = " and ".join(f"{value:.3g}" for value in values)
        raise InputError(
            f"torch's {_ORDERS[order]} derivatives of this module are wrong: taken in another order of directions, the "
            f"same one is {told}{_seen(loss, w)}"
        )


def _compare(
    order: int, said: float, before: float, form: Callable[[Tensor], float], w: Tensor, along: Tensor, size: float,
    loss: Loss, scale: float | None = None,
) -> None:
    """Hold a derivative along a direction against differences of the form below it, whose value at w is ``before``."""
    noise = _ROUNDING[w.dtype] * (abs(before) if scale is None else scale)
    wrong = []
    for step in _STEPS[w.dtype]:
        step *= size / float(along.abs().max())
        ahead, behind = ((form(w + signed * along) - before) / signed for signed in (step, -step))
        # The loss has no jumps, so differences on both sides may be averaged; a derivative may jump on one side.
        for value in ((ahead + behind) / 2,) if order == 0 else (ahead, behind):
            if abs(value - said) <= max(_VISIBLE[w.dtype] * abs(said), 20 * noise / step):
                return
            wrong.append(value - said)
    # With a kink between the points the differences depend on step and sign; with a wrong formula they do not.
    if not max(wrong) - min(wrong) >= 0.1 * abs(sum(wrong) / len(wrong)):
        found = "of its Hessian give" if order == 2 else "of its gradient give" if order else "of the loss give"
        raise _DifferenceError(
            f"torch's {_ORDERS[order]} derivatives of this module are wrong: {said:.3g} where differences {found} "
            f"{said + sum(wrong) / len(wrong):.3g}{_seen(loss, w)}"
        )


#: Nodes of torch's graph behind which derivatives of some order are missing or wrong, or weights are hidden.
_SUSPECTS = ("LayerNorm", "GroupNorm", "BatchNorm", "InstanceNorm", "RmsNorm", "WeightNorm", "Attention", "Checkpoint")


def _seen(loss: Loss, w: Tensor) -> str:
    """What a message adds about the graph and the layers: fused operations, and layers without gradients."""
    hidden: list[str] = []
    hook = register_module_forward_pre_hook(
        lambda layer, _: None if torch.is_grad_enabled() else hidden.append(type(layer).__name__)
    )
    try:
        value = loss(w.detach().clone().requires_grad_())
    finally:
        hook.remove()
    names: set[str] = set()
    todo, done = [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in done:
            continue
        done.add(node)
        names.add(type(node).__name__)
        todo += [following for following, _ in node.next_functions]
    found = sorted(name.rstrip("0").removesuffix("Backward") for name in names if any(s in name for s in _SUSPECTS))
    told = [f"its graph contains {', '.join(found)}"] if found else []
    if hidden:
        told.append(f"its forward pass runs {hidden[0]} without gradients")
    advice = "; write it out in plain tensor operations (gfm.nets.norms has the norms)" if found else ""
    return f" ({' and '.join(told)}){advice}" if told else ""


def many_vectors(problem: Problem, few: int) -> bool:
    """Whether products with several vectors at once, by a network with a copy of the weights for each, are right.

    Two vectors are tried on the first ``few`` examples, with first to third derivatives, against one after the other.
    Recurrent layers, branches that depend on data and outputs allocated beforehand do not allow several at once.
    """
    inputs, targets = problem.inputs[:few], problem.targets[:few]

    def loss(w: Tensor) -> Tensor:
        return problem.piece_loss(w, inputs, targets)

    draw = torch.Generator(device="cpu").manual_seed(1)
    V = torch.randn(2, problem.p, generator=draw, dtype=problem.dtype).to(problem.device)

    def derivatives(values: Tensor, leaf: Tensor) -> list[Tensor]:
        found = [values.detach()]
        image = values.sum()
        for _ in range(3):
            if not image.requires_grad:
                break
            (rows,) = torch.autograd.grad(image, leaf, create_graph=True, materialize_grads=True)
            found.append(rows.detach())
            image = (rows * V).sum()
        return found

    size = problem.w0.square().mean().sqrt()
    leaf = (problem.w0 + _AWAY[0] * size * V.flip(0)).requires_grad_()
    with same_random_numbers(problem.device):
        one = derivatives(torch.stack([loss(row) for row in leaf]), leaf)
        try:
            together = derivatives(torch.func.vmap(loss)(leaf), leaf)
        except Exception:  # noqa: BLE001  torch raises many kinds of errors here
            return False
    tolerance = 1e-8 if problem.dtype == torch.float64 else 1e-2
    return len(one) == len(together) and all(
        float((a - b).norm()) <= tolerance * float(a.norm()) + 1e-12 for a, b in zip(one, together, strict=True)
    )
