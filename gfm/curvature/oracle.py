"""The whole Hessian as a matrix: exact, for small p, against which everything else is tested."""

from __future__ import annotations

from torch import Tensor

from gfm.errors import InputError
from gfm.linalg import eigen
from gfm.problem import Problem

__all__ = ["dense_hessian"]


def dense_hessian(problem: Problem, w: Tensor, *, limit: int = 5000) -> Tensor:
    """H(w) (p, p), by p products on one kept graph.

    Raises:
        InputError: p is above ``limit``; p^2 numbers would be stored.
    """
    if problem.p > limit:
        raise InputError(
            f"a dense Hessian of {problem.p} weights needs {problem.p**2} numbers; raise limit above "
            f"{limit} if that is meant"
        )
    width = min(problem.p, 64)
    point = problem.at(w, width)
    H = eigen.matrix(point.hvp, problem.p, like=w, width=width)
    return (H + H.T) / 2
