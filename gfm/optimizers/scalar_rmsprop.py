"""Scalar RMSProp: one adaptive step size for all weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfm.optimizers.base import Schedule
from gfm.optimizers.second_moment import SecondMoment

__all__ = ["ScalarRMSProp"]


@dataclass(frozen=True)
class ScalarRMSProp(SecondMoment):
    """nu <- beta2 nu + (1 - beta2) |g|^2,  w <- w - lr g / (sqrt(nu) + eps); nu is 0-d.

    Raises:
        InputError: ``lr`` not positive, ``beta2`` not in (0, 1), ``eps`` negative.
    """

    lr: Schedule
    beta2: float = 0.99
    eps: float = 0.0
    bias_correction: bool = False

    def __post_init__(self) -> None:
        self._check()

    def square(self, g: Tensor) -> Tensor:
        return g @ g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(-1, keepdim=True)
