"""Steepest descent in the maximum norm, the scaled form of sign descent, and its edge of stability."""

import math
import time
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from gfm.central.stationary.program import first_term
from gfm.checks import number, whole
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.problem import Problem
from gfm.randomness import seeding
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["MOST", "MaxNormDescent", "max_norm_sharpness"]

MOST = 18
"""The largest number of weights for which all vectors of signs are tried."""
EXAMPLES = 20


def max_norm_sharpness(H: np.ndarray) -> float:
    """The largest d^T H d over vectors d of signs.

    It is also the largest over all d with abs(d_i) <= 1 if no diagonal entry of H (p, p) is negative.

    Raises:
        InputError: p is larger than ``MOST``.

    Example:
        >>> max_norm_sharpness(np.array([[2.0, -1.0], [-1.0, 2.0]]))
        6.0
    """
    if len(H) > MOST:
        raise InputError(f"All vectors of signs are tried for at most {MOST} weights, not for {len(H)}.")
    signs = _signs(len(H))
    return float(((signs @ H) * signs).sum(1).max())


@cache
def _signs(p: int) -> np.ndarray:
    """(2^(p - 1), p) all vectors of signs, but only one of d and -d."""
    return np.array([(1.0, *rest) for rest in product((-1.0, 1.0), repeat=p - 1)])


@dataclass(frozen=True)
class MaxNormDescent(Experiment):
    """Runs of w <- w - lr |g|_1 sign(g), with g the gradient, on a network of 4 weights for each hidden unit.

    A network of two inputs, tanh units and one output without bias learns sin(2 x_1) x_2 with noise from 20 examples.

    Arrays: step (m,); (runs, m, 2), by run at each of these steps and at the one after it (swings have period two):
    loss, sharpness (largest d^T H d over vectors of signs), bound (2 tr P of the first-term preconditioner P), least
    (smallest eigenvalue of H).

    Args:
        lr: learning rate.
        steps: of each run.
        every: steps between two measurements, at least 2.
        runs: number of initial weights.
        first: seed of the first.
        hidden: number of hidden units.

    Raises:
        InputError: A value is out of range, or there are too many weights to try all signs.
    """

    name: ClassVar[str] = "max-norm-descent"

    lr: float = 0.08
    steps: int = 1500
    every: int = 25
    runs: int = 8
    first: int = 100
    hidden: int = 3

    def __post_init__(self) -> None:
        number("lr", self.lr, lambda x: 0 < x < math.inf, "positive and finite")
        for name, least in (("steps", 1), ("every", 2), ("runs", 1), ("hidden", 1)):
            whole(name, getattr(self, name), least)
        if 4 * self.hidden > MOST:
            raise InputError(f"hidden must be at most {MOST // 4}: all vectors of signs are tried.")

    def problem(self) -> Problem:
        """The training problem; the runs start from weights of their own."""
        with seeding(0):
            x = torch.randn(EXAMPLES, 2, dtype=torch.float64)
            y = torch.sin(2 * x[:, :1]) * x[:, 1:] + 0.3 * torch.randn(EXAMPLES, 1, dtype=torch.float64)
            layers = nn.Linear(2, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1, bias=False)
        return Problem(nn.Sequential(*layers).double(), x, y, "mse")

    def compute(self, context: Context) -> Result:
        """Run all; measure the sharpness and its bound on the way."""
        started, problem, found = time.perf_counter(), self.problem(), []
        for run in range(self.runs):
            with seeding(self.first + run):
                w, rows = 0.5 * torch.randn(problem.p, dtype=torch.float64), []
            for step in range(self.steps + 2):
                if step % self.every in (0, 1):
                    H = dense_hessian(problem, w).numpy()
                    rows.append([float(problem.loss(w)), max_norm_sharpness(H), 2 * float(first_term(H).P.sum()),
                                 float(np.linalg.eigvalsh(H)[0])])
                g = problem.gradient(w)
                w = w - self.lr * g.abs().sum() * g.sign()
            found.append(rows[: 2 * (self.steps // self.every + 1)])
            context.progress(run + 1, self.runs)
        loss, sharpness, bound, least = np.moveaxis(np.array(found).reshape(self.runs, -1, 2, 4), -1, 0)
        arrays = {"step": np.arange(0, self.steps + 1, self.every), "loss": loss, "sharpness": sharpness,
                  "bound": bound, "least": least}
        return Result(arrays, {"p": problem.p, "seconds": time.perf_counter() - started})
