"""Heavy-ball momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gfm.optimizers.base import Optimizer, Schedule, State, check_lr, check_share

__all__ = ["HeavyBall"]


@dataclass(frozen=True)
class HeavyBall(Optimizer):
    """m <- momentum m + g, w <- w - lr m.

    On slow time scales it is gradient descent with P = (1 - momentum) / lr; at the edge of stability the sharpness is
    2 (1 + momentum) / lr. Its flow is not in the Central Flows paper; like the paper's flows it is derived by
    averaging the update over the oscillation.

    Args:
        lr: positive number, or a function of the step (0, 1, ...; also evaluated between steps).
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
    def threshold(self) -> float:
        """2 (1 + momentum) / (1 - momentum), an eigenvalue of P^{-1} H."""
        return 2.0 * (1.0 + self.momentum) / (1.0 - self.momentum)

    def init(self, w: Tensor) -> State:
        """The momentum at zero, (p,)."""
        return State(momentum=torch.zeros_like(w))

    def update(self, state: State, g: Tensor) -> State:
        """The state after m <- momentum m + g, m (p,)."""
        assert state.momentum is not None
        return State(state.t + 1.0, momentum=self.momentum * state.momentum + g)

    def preconditioner(self, state: State) -> float:
        """P = (1 - momentum) / lr, a number."""
        return (1.0 - self.momentum) / self.lr_at(state.t)

    def direction(self, state: State, g: Tensor) -> Tensor:
        """(1 - momentum) m, (p,): an average of the gradients."""
        assert state.momentum is not None
        return (1.0 - self.momentum) * state.momentum
