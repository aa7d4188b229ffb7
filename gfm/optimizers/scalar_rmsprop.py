"""Scalar RMSProp: one adaptive step size for all weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfm.optimizers.base import register
from gfm.optimizers.second_moment import SecondMoment

__all__ = ["ScalarRMSProp"]


@register("scalar_rmsprop")
@dataclass(frozen=True)
class ScalarRMSProp(SecondMoment):
    """nu <- beta2 nu + (1 - beta2) (g . g),  w <- w - lr g / (sqrt(nu) + eps); nu is 0-d.

    lr, beta2, eps, bias_correction: see :class:`SecondMoment`.
    """

    def square(self, g: Tensor) -> Tensor:
        """The squared norm of the gradient, 0-d."""
        return g @ g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products of the rows, (m, 1)."""
        return (a * b).sum(-1, keepdim=True)
