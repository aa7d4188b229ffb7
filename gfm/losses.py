"""The public name of :mod:`gfm.problem.losses`."""

from gfm.problem.losses import CrossEntropy, Loss, MeanSquare, available, resolve

__all__ = ["CrossEntropy", "Loss", "MeanSquare", "available", "resolve"]
