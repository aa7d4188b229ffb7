"""Descent on quadratics, where everything has a closed form: L(w) = w^T H w / 2."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.optimizers import GradientDescent, Optimizer, State
from gfm.problem import Problem

__all__ = ["FixedPreconditioner", "along", "descend", "growth", "quadratic", "right_eigenvectors"]


class _Root(nn.Module):
    """A module with outputs R w, where R^T R = H, so that half their squared length is w^T H w / 2."""

    R: Tensor

    def __init__(self, H: Tensor, w0: Tensor):
        super().__init__()
        values, vectors = torch.linalg.eigh(H)
        if values[0] < 0:
            raise InputError("The quadratic needs a positive semidefinite matrix.")
        self.w = nn.Parameter(w0.clone())
        self.register_buffer("R", values.sqrt()[:, None] * vectors.T)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.R @ self.w)


@dataclass(frozen=True)
class FixedPreconditioner(Optimizer):
    """w <- w - P^{-1} grad L with a fixed P, the diagonal matrix with entries ``diagonal``."""

    diagonal: tuple[float, ...]
    lr = 1.0

    def preconditioner(self, state: State) -> Tensor:
        """The fixed diagonal, (p,) in float64."""
        return torch.tensor(self.diagonal, dtype=torch.float64)


def quadratic(H: Sequence[Sequence[float]], w0: Sequence[float]) -> Problem:
    """L(w) = w^T H w / 2 as a training problem with one example, in float64.

    Args:
        H: (p, p) symmetric, positive semidefinite matrix.
        w0: (p,) start.

    Raises:
        InputError: ``H`` is not symmetric positive semidefinite, or ``w0`` does not fit it.
    """
    matrix = torch.as_tensor(H, dtype=torch.float64)
    start = torch.as_tensor(w0, dtype=torch.float64)
    if matrix.shape != (len(start), len(start)) or not torch.allclose(matrix, matrix.T):
        raise InputError(f"H must be symmetric with a row for each of {len(start)} weights.")
    one = torch.ones(1, 1, dtype=torch.float64)
    return Problem(_Root(matrix, start), one, torch.zeros(1, len(start), dtype=torch.float64), "mse")


def descend(problem: Problem, optimizer: Optimizer | float, steps: int) -> np.ndarray:
    """(steps + 1, p) weights of the optimizer; a number stands for gradient descent with that learning rate."""
    optimizer = optimizer if isinstance(optimizer, Optimizer) else GradientDescent(float(optimizer))
    w, state, path = problem.w0, optimizer.init(problem.w0), [problem.w0]
    for _ in range(steps):
        w, state = optimizer.advance(w, state, problem.gradient(w))
        path.append(w)
    return torch.stack(path).detach().numpy()


def growth(path: np.ndarray) -> float:
    """Mean factor per step by which the distance to the minimum grows along a path (steps + 1, p)."""
    ends = np.linalg.norm(path[[0, -1]], axis=1)
    return float((ends[1] / ends[0]) ** (1 / (len(path) - 1)))


def right_eigenvectors(H: Sequence[Sequence[float]], P: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (p,), largest first, and unit right eigenvectors (p, p; columns) of P^{-1} H."""
    root = np.sqrt(np.asarray(P, dtype=float))
    values, vectors = np.linalg.eigh(np.asarray(H, dtype=float) / np.outer(root, root))
    vectors = vectors / root[:, None]
    return values[::-1], (vectors / np.linalg.norm(vectors, axis=0))[:, ::-1]


def along(path: np.ndarray, direction: np.ndarray) -> float:
    """``1 - |cosine|`` of the angle between the last weights of a path (steps + 1, p) and a direction (p,)."""
    last = path[-1]
    return float(1 - abs(last @ direction) / (np.linalg.norm(last) * np.linalg.norm(direction)))
