"""Heavy-ball momentum."""

from dataclasses import dataclass
from typing import ClassVar

from gfm.optimizers.base import Optimizer, Schedule, State, check_lr, check_share
from gfm.optimizers.filters import Filter

__all__ = ["HeavyBall"]


@dataclass(frozen=True)
class HeavyBall(Optimizer):
    """m <- momentum m + g, w <- w - lr m; at the edge of stability the sharpness is 2 (1 + momentum) / lr.

    Args:
        lr: positive number, or a function of the step (0, 1, ...).
        momentum: in [0, 1).

    Raises:
        InputError: ``lr`` is not positive, or ``momentum`` is not in [0, 1).
    """

    name: ClassVar[str] = "heavy_ball"
    lr: Schedule
    momentum: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))
        object.__setattr__(self, "momentum", check_share("momentum", self.momentum))

    @property
    def filter(self) -> Filter:
        """1 / (1 - momentum / z)."""
        return Filter((1.0,), (1.0, -self.momentum))

    def preconditioner(self, state: State) -> float:
        """P = (1 - momentum) / lr, a number: on slow time scales the rule is gradient descent with this P."""
        return 1.0 / (self.filter.gain * self.lr_at(state.t))
