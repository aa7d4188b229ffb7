"""Symmetric matrices (k, k) as half vectors (k(k+1)/2,), scaled so that inner products are preserved.

The half vector contains the upper triangle row by row, with off-diagonal entries multiplied by sqrt(2). The map
is therefore an isometry: ``<A, B>`` of the matrices equals the dot product of the half vectors.
"""

from functools import lru_cache
from math import isqrt, sqrt
from typing import Any, TypeVar

import numpy as np
import torch

from gfm.errors import InputError

__all__ = ["from_half", "half_size", "matrix_size", "pairs", "scale", "to_half"]

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def half_size(k: int) -> int:
    """Length k(k+1)/2 of the half vector of a (k, k) symmetric matrix."""
    return k * (k + 1) // 2


def matrix_size(m: int) -> int:
    """The k with k(k+1)/2 = m.

    Raises:
        InputError: No whole number k gives m.
    """
    k = (isqrt(8 * m + 1) - 1) // 2
    if half_size(k) != m:
        raise InputError(f"A half vector has length k(k+1)/2; {m} is not such a number.")
    return k


@lru_cache(maxsize=64)
def pairs(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays (i, j), i <= j, of the half vector's entries, in its order; read-only."""
    i, j = np.triu_indices(k)
    i.flags.writeable = j.flags.writeable = False
    return i, j


@lru_cache(maxsize=64)
def scale(k: int) -> np.ndarray:
    """The (k(k+1)/2,) factors of the half vector's entries: 1 on the diagonal, sqrt(2) off it; read-only."""
    i, j = pairs(k)
    factors = np.where(i == j, 1.0, sqrt(2.0))
    factors.flags.writeable = False
    return factors


def to_half(matrix: Array) -> Array:
    """The half vectors (..., k(k+1)/2) of symmetric matrices (..., k, k), NumPy or torch.

    Only the upper triangle is read.

    Raises:
        InputError: The last two dimensions differ.

    Example:
        >>> to_half(np.array([[1.0, 2.0], [2.0, 3.0]])).shape
        (3,)
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InputError(f"A square matrix is needed, not one of shape {tuple(matrix.shape)}.")
    k = matrix.shape[-1]
    i, j = _indices(k, matrix)
    return matrix[..., i, j] * _factors(k, matrix)


def from_half(half: Array) -> Array:
    """The symmetric matrices (..., k, k) of half vectors (..., k(k+1)/2), NumPy or torch.

    Raises:
        InputError: ``half`` is a scalar, or its last dimension is not k(k+1)/2 for any k.
    """
    if half.ndim < 1:
        raise InputError("A half vector is needed, not a scalar.")
    k = matrix_size(half.shape[-1])
    i, j = _indices(k, half)
    values = half / _factors(k, half)
    shape = (*half.shape[:-1], k, k)
    matrix: Any = values.new_zeros(shape) if isinstance(values, torch.Tensor) else np.zeros(shape, values.dtype)
    matrix[..., i, j] = values
    matrix[..., j, i] = values
    return matrix


def _indices(k: int, like: Any) -> Any:
    return torch.triu_indices(k, k, device=like.device) if isinstance(like, torch.Tensor) else pairs(k)


def _factors(k: int, like: Any) -> Any:
    """``scale(k)`` in the kind, dtype (a floating one for whole numbers) and device of ``like``."""
    if isinstance(like, torch.Tensor):
        kind = like.dtype if like.is_floating_point() else torch.get_default_dtype()
        return torch.tensor(scale(k).copy(), dtype=kind, device=like.device)
    return scale(k).astype(like.dtype if np.issubdtype(like.dtype, np.floating) else np.float64, copy=False)
