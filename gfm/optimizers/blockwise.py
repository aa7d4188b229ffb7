"""Rules with a matrix preconditioner: one block for each parameter tensor."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.linalg.preconditioner import MatrixPreconditioner
from gfm.optimizers.base import Optimizer, State
from gfm.problem.flat import Flat

__all__ = ["BlockState", "BlockwiseOptimizer", "matrix_power"]

Block = tuple[Tensor, ...]


@dataclass(frozen=True)
class BlockState(State):
    """A state with tensors for each parameter tensor.

    Args:
        blocks: one tuple of tensors for each parameter tensor.
    """

    blocks: tuple[Block, ...] = ()


class BlockwiseOptimizer(Optimizer):
    """A rule whose preconditioner is block diagonal, with a symmetric positive block for each parameter tensor.

    A subclass defines ``init_block``, ``update_block`` and ``inverse_root``; it may have momentum
    (``filter``). Parameter tensors are given as matrices (first dimension, all others); a vector is a column, a single
    number 1 by 1. The effective eigenvalues are those of P^{-1} H with the P that the step uses. Flows are not derived.

    ``gfm.central.run`` gives a rule the layout of the weights; elsewhere use ``rule.with_layout(problem.flat)``.
    """

    _flat: Flat | None = None

    @abstractmethod
    def init_block(self, W: Tensor) -> Block:
        """The state of a parameter tensor (rows, columns) before the first step."""

    @abstractmethod
    def update_block(self, block: Block, G: Tensor) -> Block:
        """Its state after a step's direction, or gradient without momentum, G (rows, columns)."""

    @abstractmethod
    def inverse_root(self, block: Block) -> Callable[[Tensor], Tensor]:
        """P^{-1/2} without the learning rate, a map of stacked matrices (k, rows, columns)."""

    def with_layout(self, flat: Flat) -> Self:
        """The rule for the parameter tensors of this layout."""
        bound = copy.copy(self)
        object.__setattr__(bound, "_flat", flat)
        return bound

    def matrices(self, V: Tensor) -> list[Tensor]:
        """The parts of vectors (p,) or rows (k, p) as matrices (rows, columns) or (k, rows, columns).

        Raises:
            InputError: The layout of the weights is not known yet.
        """
        if self._flat is None:
            raise InputError(f"{type(self).__name__} needs the layout of the weights: use with_layout(problem.flat).")
        parts = zip(V.split(self._flat.sizes, -1), self._flat.shapes, strict=True)
        return [part.reshape(*V.shape[:-1], *((shape[0], -1) if shape else (1, 1))) for part, shape in parts]

    def init(self, w: Tensor) -> State:
        """The state of the filter, and of every block, at weights (p,)."""
        return BlockState(momentum=self.filter.init(w), blocks=tuple(map(self.init_block, self.matrices(w))))

    def update(self, state: State, g: Tensor) -> State:
        """The state after an update of the momentum and of every block with the gradient (p,)."""
        assert isinstance(state, BlockState)
        moved = super().update(state, g)
        parts = self.matrices(self.direction(moved, g))
        blocks = tuple(self.update_block(*pair) for pair in zip(state.blocks, parts, strict=True))
        return BlockState(moved.t, momentum=moved.momentum, blocks=blocks)

    def preconditioner(self, state: State) -> MatrixPreconditioner:
        """P (p, p): the blocks divided by the learning rate."""
        assert isinstance(state, BlockState)
        maps, scale = [self.inverse_root(block) for block in state.blocks], self.lr_at(state.t) ** 0.5

        def inverse_root(V: Tensor) -> Tensor:
            rows = V.reshape(-1, V.shape[-1])
            parts = [map_(M).flatten(1) for map_, M in zip(maps, self.matrices(rows), strict=True)]
            return torch.cat(parts, 1).mul_(scale).reshape(V.shape)

        return MatrixPreconditioner(inverse_root)


def matrix_power(A: Tensor, power: float) -> Tensor:
    """A^power of a symmetric positive definite matrix (m, m)."""
    values, vectors = torch.linalg.eigh(A)
    return (vectors * values.clamp(min=torch.finfo(A.dtype).tiny) ** power) @ vectors.T
