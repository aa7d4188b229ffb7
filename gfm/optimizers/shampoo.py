"""Shampoo."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gfm.checks import number
from gfm.optimizers.base import Schedule, check_lr
from gfm.optimizers.blockwise import Block, BlockwiseOptimizer, matrix_power

__all__ = ["Shampoo"]


@dataclass(frozen=True)
class Shampoo(BlockwiseOptimizer):
    """L <- L + G G^T, R <- R + G^T G, W <- W - lr L^{-1/4} G R^{-1/4} for each parameter matrix W with gradient G.

    Both start at damping times the identity. It has discrete processes, not flows.

    Source: Gupta, Koren and Singer (2018), Algorithm 1.

    Args:
        lr: positive number, or a function of the step.
        damping: positive.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "shampoo"
    lr: Schedule
    damping: float = 1e-4

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))
        damping = number("damping", self.damping, lambda x: 0 < x < math.inf, "a positive number")
        object.__setattr__(self, "damping", damping)

    def init_block(self, W: Tensor) -> Block:
        """The matrices L (rows, rows) and R (columns, columns)."""
        L, R = (self.damping * torch.eye(size, dtype=W.dtype, device=W.device) for size in W.shape)
        return L, R

    def update_block(self, block: Block, G: Tensor) -> Block:
        """L + G G^T and R + G^T G for a gradient G (rows, columns)."""
        L, R = block
        return L + G @ G.T, R + G.T @ G

    def inverse_root(self, block: Block) -> Callable[[Tensor], Tensor]:
        """G -> L^{-1/8} G R^{-1/8}."""
        L, R = block
        left, right = matrix_power(L, -0.125), matrix_power(R, -0.125)
        return lambda G: left @ G @ right
