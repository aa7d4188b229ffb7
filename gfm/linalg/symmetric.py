"""Symmetric matrices (k, k) as half vectors (k(k+1)/2,), scaled so that nothing is lost.

The half vector holds the upper triangle row by row, its off-diagonal entries times the root of
2. So the map is an isometry: ``<A, B>`` of the matrices equals the dot product of the half
vectors, and no metric is needed in what works on them.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt, sqrt
from typing import TypeVar

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
        InputError: no such k exists.
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
    """The factors (k(k+1)/2,) of the half vector's entries: 1 on the diagonal, root 2 off it."""
    i, j = pairs(k)
    factors = np.where(i == j, 1.0, sqrt(2.0))
    factors.flags.writeable = False
    return factors


def to_half(matrix: Array) -> Array:
    """The half vectors (..., k(k+1)/2) of symmetric matrices (..., k, k), NumPy or torch.

    Only the upper triangle is read.

    Raises:
        InputError: the last two dimensions differ.

    Example:
        >>> to_half(np.array([[1.0, 2.0], [2.0, 3.0]])).shape
        (3,)
    """
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InputError(f"A square matrix is needed, not one of shape {tuple(matrix.shape)}.")
    k = matrix.shape[-1]
    if isinstance(matrix, torch.Tensor):
        i, j, _ = _torch_indices(k, matrix.device)
        return matrix[..., i, j] * _torch_scale(k, matrix.dtype, matrix.device)
    i, j = pairs(k)
    return matrix[..., i, j] * scale(k).astype(_floating(matrix.dtype), copy=False)


def from_half(half: Array) -> Array:
    """The symmetric matrices (..., k, k) of half vectors (..., k(k+1)/2), NumPy or torch.

    Raises:
        InputError: the last dimension is no k(k+1)/2.
    """
    if half.ndim < 1:
        raise InputError("A half vector is needed, not a scalar.")
    k = matrix_size(half.shape[-1])
    if isinstance(half, torch.Tensor):
        _, _, where = _torch_indices(k, half.device)
        flat = half / _torch_scale(k, half.dtype, half.device)
        return flat[..., where]
    return (half / scale(k).astype(_floating(half.dtype), copy=False))[..., _where(k)]


@lru_cache(maxsize=64)
def _where(k: int) -> np.ndarray:
    """(k, k): the place of each matrix entry in the half vector."""
    where = np.zeros((k, k), dtype=np.int64)
    i, j = pairs(k)
    where[i, j] = where[j, i] = np.arange(half_size(k))
    where.flags.writeable = False
    return where


@lru_cache(maxsize=64)
def _torch_indices(k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    i, j = pairs(k)
    first, second, where = (torch.tensor(a.copy(), device=device) for a in (i, j, _where(k)))
    return first, second, where


@lru_cache(maxsize=64)
def _torch_scale(k: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    kind = dtype if dtype.is_floating_point else torch.get_default_dtype()
    return torch.tensor(scale(k).copy(), dtype=kind, device=device)


def _floating(dtype: np.dtype) -> np.dtype:
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)
