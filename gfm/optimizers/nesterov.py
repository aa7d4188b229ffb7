"""Nesterov's momentum."""

from dataclasses import dataclass
from typing import ClassVar

from gfm.optimizers.filters import Filter
from gfm.optimizers.heavy_ball import HeavyBall

__all__ = ["Nesterov"]


@dataclass(frozen=True)
class Nesterov(HeavyBall):
    """m <- momentum m + g, w <- w - lr (g + momentum m), as in torch.

    At the edge of stability the sharpness is 2 (1 + momentum) / ((1 + 2 momentum) lr).

    Args:
        lr, momentum: as for :class:`HeavyBall`.
    """

    name: ClassVar[str] = "nesterov"

    @property
    def filter(self) -> Filter:
        """1 + momentum / (1 - momentum / z)."""
        return Filter((1.0 + self.momentum, -self.momentum), (1.0, -self.momentum))
