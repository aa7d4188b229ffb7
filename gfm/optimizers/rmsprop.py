"""RMSProp: one adaptive step size for each weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gfm.optimizers.base import Schedule
from gfm.optimizers.second_moment import SecondMoment

__all__ = ["RMSProp"]


@dataclass(frozen=True)
class RMSProp(SecondMoment):
    """nu <- beta2 nu + (1 - beta2) g * g,  w <- w - lr g / (sqrt(nu) + eps); nu is (p,).

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
        return g * g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b
