"""Adam."""

from dataclasses import dataclass
from typing import ClassVar

from gfm.optimizers.base import Schedule, check_share
from gfm.optimizers.filters import Filter
from gfm.optimizers.second_moment import RMSProp

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam(RMSProp):
    """m <- beta1 m + (1 - beta1) g, nu as in RMSProp, both bias-corrected; w <- w - lr m / (sqrt(nu) + eps).

    The threshold is 38 at beta1 = 0.9; with bias correction it is lower in the first steps, 38 (1 - 0.9^t).

    Args:
        lr: positive number, or a function of the step.
        beta1: in [0, 1), of the averaged gradient m.
        beta2, eps, bias_correction: as for :class:`RMSProp`; the correction also applies to m.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "adam"
    lr: Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    bias_correction: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "beta1", check_share("beta1", self.beta1))

    @property
    def filter(self) -> Filter:
        """(1 - beta1) / (1 - beta1 / z), with bias correction if the option is set."""
        return Filter((1.0 - self.beta1,), (1.0, -self.beta1), corrected=self.bias_correction)
