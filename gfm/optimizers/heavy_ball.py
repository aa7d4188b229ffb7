"""Heavy-ball momentum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfm.optimizers.base import Optimizer, Schedule, State, check_lr, check_share, register

__all__ = ["HeavyBall"]


@register("heavy_ball")
@dataclass(frozen=True)
class HeavyBall(Optimizer):
    """m <- momentum m + g, w <- w - lr m.

    On slow scales it is gradient descent with P = (1 - momentum) / lr; it oscillates once the
    sharpness reaches 2 (1 + momentum) / lr, an eigenvalue 2 (1 + momentum) / (1 - momentum) of
    P^{-1} H. Not in the Central Flows paper; derived here as the authors derive theirs: by averaging the
    update over the oscillation.

    Raises:
        InputError: ``lr`` is not positive or ``momentum`` not in [0, 1).
    """

    lr: Schedule
    momentum: float = 0.9

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))
        object.__setattr__(self, "momentum", check_share("momentum", self.momentum))

    @property
    def threshold(self) -> float:
        """Eigenvalue of P^{-1} H at which it starts to oscillate, 2 (1 + momentum) / (1 - momentum)."""
        return 2.0 * (1.0 + self.momentum) / (1.0 - self.momentum)

    def init(self, w: Tensor) -> State:
        """The momentum at zero, (p,)."""
        return State(momentum=torch.zeros_like(w))

    def update(self, state: State, g: Tensor) -> State:
        """The momentum (p,) times its factor, plus the gradient (p,)."""
        assert state.momentum is not None
        return State(state.t + 1.0, momentum=self.momentum * state.momentum + g)

    def preconditioner(self, state: State) -> float:
        """P = (1 - momentum) / lr, a number."""
        return (1.0 - self.momentum) / self.lr_at(state.t)

    def direction(self, state: State, g: Tensor) -> Tensor:
        """(1 - momentum) m, (p,): the gradient's average."""
        assert state.momentum is not None
        return (1.0 - self.momentum) * state.momentum
