"""The full Hessian as a matrix: exact, for small p, and the reference in tests."""

from __future__ import annotations

from torch import Tensor

from gfm.errors import InputError
from gfm.linalg import eigen
from gfm.problem import Problem

__all__ = ["dense_hessian"]


def dense_hessian(problem: Problem, w: Tensor, *, limit: int = 5000) -> Tensor:
    """H(w) (p, p), by p products on one kept graph.

    Raises:
        InputError: p exceeds ``limit``, which guards against storing p^2 numbers by accident.
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
