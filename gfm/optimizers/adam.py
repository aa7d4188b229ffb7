"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gfm.optimizers.base import Schedule, State, check_share
from gfm.optimizers.second_moment import RMSProp

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam(RMSProp):
    """m <- beta1 m + (1 - beta1) g, nu as in RMSProp, both bias-corrected; w <- w - lr m / (sqrt(nu) + eps).

    Its flow is not in the Central Flows paper; like the paper's flows it is derived by averaging the update over
    the oscillation.

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
    def threshold(self) -> float:
        """Eigenvalue of P^{-1} H at which it starts to oscillate: 2 (1 + beta1) / (1 - beta1), 38 at 0.9."""
        return 2.0 * (1.0 + self.beta1) / (1.0 - self.beta1)

    def init(self, w: Tensor) -> State:
        """Both averages at zero, (p,)."""
        return State(nu=torch.zeros_like(w), momentum=torch.zeros_like(w))

    def update(self, state: State, g: Tensor) -> State:
        """Both averages move towards the gradient (p,) and its square."""
        assert state.momentum is not None
        nu = super().update(state, g).nu
        return State(state.t + 1.0, nu=nu, momentum=self.beta1 * state.momentum + (1.0 - self.beta1) * g)

    def direction(self, state: State, g: Tensor) -> Tensor:
        """The averaged gradient m, (p,), divided by 1 - beta1^t with bias correction."""
        assert state.momentum is not None
        return state.momentum / (1.0 - self.beta1**state.t) if self.bias_correction else state.momentum
