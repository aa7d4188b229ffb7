"""The public name of :mod:`gfm.linalg.symmetric`."""

from gfm.linalg.symmetric import from_half, half_size, matrix_size, pairs, scale, to_half

__all__ = ["from_half", "half_size", "matrix_size", "pairs", "scale", "to_half"]
