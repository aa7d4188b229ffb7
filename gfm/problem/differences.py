"""A point near the weights where a loss's derivatives are compared with differences of the derivatives below them."""

from collections.abc import Callable
from math import inf

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.problem.inspection import Loss, seen

__all__ = ["STEPS", "DifferenceError", "Point", "mixed", "slope_at"]

#: Steps of the finite differences, in units of a typical weight: in float64 so small that they cross hardly any kink.
STEPS = {torch.float64: (1e-6, 1e-7), torch.float32: (2e-2, 1e-2, 5e-3)}
#: Relative error of a derivative that differences over these steps can show.
_VISIBLE = {torch.float64: 2e-4, torch.float32: 1e-2}
#: Relative rounding of a loss or of a derivative.
_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6}
#: Derivatives smaller than this share of loss per typical weight count as rounding.
_FLOOR = {torch.float64: 1e-12, torch.float32: 1e-6}
#: Distance from the module's own weights, in units of a typical weight, of the point where derivatives are tested.
_AWAY = (0.1, 0.01, 0.001)
_ORDERS = ("first", "second", "third")


class DifferenceError(InputError):
    """A derivative disagrees with differences at one point."""


class Point:
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
                self.leaf, self.value, self.slope = slope_at(loss, self.leaf)
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
        """Words for messages: what in the loss hides or lacks derivatives."""
        return seen(self.loss, self.w)

    def floor(self, order: int) -> float:
        """The size up to which a derivative along unit directions counts as rounding."""
        scale = self.size * self.w.shape[0] ** 0.5
        return _FLOOR[self.precision] * abs(float(self.value)) / scale ** (order + 1)

    def finite(self, order: int, derivative: Tensor) -> None:
        """Refuse a derivative (p,) that is not finite."""
        if not torch.isfinite(derivative).all():
            raise InputError(f"torch's {_ORDERS[order]} derivatives of this module are not finite{self.seen()}.")

    def symmetric(self, order: int, forms: list[tuple[Tensor, Tensor]]) -> None:
        """Compare one form computed in several ways: pairs (direction, derivative) whose products must agree."""
        values = [float(row @ derivative.detach()) for row, derivative in forms]
        usual = sum(float(derivative.detach().norm()) for _, derivative in forms) / (len(forms) * len(self.w) ** 0.5)
        tolerance = 1e-5 if self.precision == torch.float64 else 0.02
        if max(values) - min(values) > max(tolerance * max(usual, *map(abs, values)), self.floor(order)):
            told = " and ".join(f"{value:.3g}" for value in values)
            raise InputError(
                f"torch's {_ORDERS[order]} derivatives of this module are wrong: taken in another order of directions, "
                f"the same one is {told}{self.seen()}."
            )

    def compare(
        self, order: int, said: float, before: float, form: Callable[[Tensor], float], along: Tensor,
        scale: float | None = None,
    ) -> None:
        """Compare a derivative along a direction with differences of the form below it, which is ``before`` at w."""
        noise = _ROUNDING[self.precision] * (abs(before) if scale is None else scale)
        wrong = []
        for step in STEPS[self.precision]:
            step *= self.size / float(along.abs().max())
            if not 0.0 < step < inf:  # the derivatives are too large or too small for differences
                return
            ahead, behind = ((form(self.w + signed * along) - before) / signed for signed in (step, -step))
            # The loss itself does not jump, nor do derivatives without kinks (others are not compared in float32):
            # there the differences on both sides are averaged.
            averaged = order == 0 or self.precision != torch.float64
            for value in ((ahead + behind) / 2,) if averaged else (ahead, behind):
                if abs(value - said) <= max(_VISIBLE[self.precision] * abs(said), 20 * noise / step, self.floor(order)):
                    return
                wrong.append(value - said)
        # With a kink between the points the differences depend on step and sign; with a wrong formula they do not.
        if not max(wrong) - min(wrong) >= 0.1 * abs(sum(wrong) / len(wrong)):
            found = ("of the loss give", "of its gradient give", "of its Hessian give")[order]
            raise DifferenceError(
                f"torch's {_ORDERS[order]} derivatives of this module are wrong: {said:.3g} where differences {found} "
                f"{said + sum(wrong) / len(wrong):.3g}{self.seen()}."
            )


def slope_at(loss: Loss, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leaf, value and gradient with a graph."""
    leaf = w.detach().clone().requires_grad_()
    value = loss(leaf)
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    return leaf, value.detach(), slope


def mixed(row: Tensor, other: Tensor) -> Tensor:
    """A direction between the two; the first if they cancel."""
    mixed = row + other / other.norm() if other.norm() > 0 else row
    return mixed / mixed.norm() if mixed.norm() > 0.1 else row
