"""RMSProp: one adaptive step size for each weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfm.optimizers.base import register
from gfm.optimizers.second_moment import SecondMoment

__all__ = ["RMSProp"]


@register("rmsprop")
@dataclass(frozen=True)
class RMSProp(SecondMoment):
    """nu <- beta2 nu + (1 - beta2) g * g,  w <- w - lr g / (sqrt(nu) + eps); nu is (p,).

    lr, beta2, eps, bias_correction: see :class:`SecondMoment`.
    """

    def square(self, g: Tensor) -> Tensor:
        """The square of each coordinate, (p,)."""
        return g * g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """Products coordinate by coordinate, (m, p)."""
        return a * b
