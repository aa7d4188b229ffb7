"""Gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

from gfm.optimizers.base import Optimizer, Schedule, State, check_lr

__all__ = ["GradientDescent"]


@dataclass(frozen=True)
class GradientDescent(Optimizer):
    """w <- w - lr grad L(w). P = 1 / lr; at the edge of stability the sharpness is 2 / lr.

    Args:
        lr: positive number, or a function of the step (0, 1, ...).

    Raises:
        InputError: ``lr`` is not positive.

    Example:
        >>> import torch
        >>> rule = GradientDescent(lr=0.1)
        >>> w, gradient = torch.tensor([1.0]), torch.tensor([2.0])
        >>> state = rule.update(rule.init(w), gradient)
        >>> round(rule.step(w, state, gradient).item(), 3)
        0.8
    """

    name: ClassVar[str] = "gd"
    lr: Schedule

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))

    def preconditioner(self, state: State) -> float:
        """P = 1 / lr, a number."""
        return 1.0 / self.lr_at(state.t)
