"""Muon."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gfm.checks import whole
from gfm.optimizers.base import Schedule, check_lr, check_share
from gfm.optimizers.blockwise import Block, BlockwiseOptimizer, matrix_power
from gfm.optimizers.filters import Filter

__all__ = ["Muon"]

#: a, b, c of the Newton-Schulz iteration X <- a X + b (X X^T) X + c (X X^T)^2 X, positive for every singular value.
_COEFFICIENTS = 3.4445, -4.7750, 2.0315


@dataclass(frozen=True)
class Muon(BlockwiseOptimizer):
    """m <- momentum m + (1 - momentum) g, W <- W - lr s NS((1 - momentum) G + momentum M), Nesterov's momentum.

    NS orthogonalises a matrix by Newton-Schulz iterations, and s = sqrt(max(1, rows / columns)). NS(D) = Q D with a
    polynomial Q in D D^T, so that s lr Q is the inverse preconditioner of the step, on the smaller side of the matrix
    (a vector is divided by its norm). It has discrete processes, not flows.

    Source: Jordan et al. (2024), Muon, and ``torch.optim.Muon``, which iterates in bfloat16.

    Args:
        lr: positive number, or a function of the step.
        momentum: in [0, 1).
        ns_steps: number of Newton-Schulz iterations.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "muon"
    lr: Schedule
    momentum: float = 0.95
    ns_steps: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))
        object.__setattr__(self, "momentum", check_share("momentum", self.momentum))
        object.__setattr__(self, "ns_steps", whole("ns_steps", self.ns_steps, 1))

    @property
    def filter(self) -> Filter:
        """Nesterov's: (1 - momentum) (1 + momentum / (1 - momentum / z))."""
        b = self.momentum
        return Filter((1.0 - b * b, b * b - b), (1.0, -b))

    def init_block(self, W: Tensor) -> Block:
        """The inverse preconditioner s Q (m, m), m the smaller side of W (rows, columns); at the start the identity."""
        return (torch.eye(min(W.shape), dtype=W.dtype, device=W.device),)

    def update_block(self, block: Block, G: Tensor) -> Block:
        """The product s Q for the direction G (rows, columns)."""
        rows, columns = G.shape
        norm = G.norm().clamp(min=1e-7)
        X = (G if rows <= columns else G.T) / norm
        A, (a, b, c) = X @ X.T, _COEFFICIENTS
        Q = one = torch.eye(len(A), dtype=A.dtype, device=A.device)
        for _ in range(self.ns_steps):
            B = a * one + b * A + c * A @ A
            Q, A = B @ Q, B @ A @ B
        return (max(1.0, rows / columns) ** 0.5 * (Q + Q.T) / (2.0 * norm),)

    def inverse_root(self, block: Block) -> Callable[[Tensor], Tensor]:
        """G -> (s Q)^{1/2} G, or G (s Q)^{1/2} if there are more rows than columns."""
        root = matrix_power(block[0], 0.5)
        return lambda G: G @ root if G.shape[-2] > G.shape[-1] else root @ G
