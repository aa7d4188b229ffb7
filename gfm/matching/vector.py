"""The field of all weights together: memoryless, v(w), for runs that share one task.

Where all runs descend the same loss, the weights themselves say everything, and the plain field of the
paper, v(w, t), is well defined. Its affine part is v(w) = -K (w - w*), the gradient field of a
quadratic; a network of all weights bends it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training, train_module
from gfm.matching.field import VectorField
from gfm.matching.integrate import integrate
from gfm.matching.path import IncrementPath

__all__ = ["MOST", "AffineVectorField", "VectorFlow"]

MOST = 64
"""Most weights that are looked at together by the affine field (its K has their square)."""


@dataclass(frozen=True)
class AffineVectorField:
    """v(w) = w K' + b per step. matrix: (p, p) K. offset: (p,) b."""

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Velocities (..., p) per step at weights (..., p)."""
        return weights @ self.matrix.T + self.offset

    @classmethod
    def match(cls, weights: np.ndarray, passes: int = 3) -> AffineVectorField:
        """Match the field to all increments of recorded runs (runs, steps+1, p), in closed form.

        The noise of stochastic gradients grows with the distance to the optimum, so after a first plain
        fit every increment is weighted by the inverse of that squared distance (floored at a hundredth
        of its median, for runs that arrive): feasible generalised least squares.
        """
        p = weights.shape[2]
        here = weights[:, :-1].reshape(-1, p).astype(np.float64)
        step = np.diff(weights, axis=1).reshape(-1, p).astype(np.float64)
        features = np.hstack([here, np.ones((len(here), 1))])
        weight = np.ones(len(here))
        for _ in range(passes):
            w = weight[:, None]
            solution = np.linalg.lstsq(features * w, step * w, rcond=None)[0]
            matrix, offset = solution[:-1].T, solution[-1]
            optimum = -np.linalg.lstsq(matrix, offset, rcond=None)[0]
            distance = np.square(here - optimum).sum(axis=1)
            floor = 0.01 * np.median(distance)
            weight = 1 / np.sqrt(distance + (floor if floor > 0 else 1.0))
        return cls(matrix, offset)


class VectorFlow:
    """The flow of an affine field of all weights, with a network's correction if asked.

    Only the last observed state is used: the field is memoryless.
    """

    def __init__(self, affine: AffineVectorField, dtype: torch.dtype) -> None:
        self.affine, self.dtype = affine, dtype
        self.field: nn.Module | None = None

    @classmethod
    def fit(cls, weights: np.ndarray, dtype: torch.dtype) -> VectorFlow:
        """From whole recorded runs (runs, steps+1, p).

        Raises:
            InputError: more than ``MOST`` weights.
        """
        if weights.shape[2] > MOST:
            raise InputError(
                f"The vector view takes at most {MOST} weights; got {weights.shape[2]}. "
                "Use view='coordinate'."
            )
        return cls(AffineVectorField.match(weights), dtype)

    @property
    def size(self) -> int:
        """How many numbers were fitted, the network's included."""
        fitted = self.affine.matrix.size + self.affine.offset.size
        return fitted + (0 if self.field is None else sum(p.numel() for p in self.field.parameters()))

    def correct(
        self,
        train: np.ndarray,
        held: np.ndarray,
        observed: int,
        hidden: tuple[int, ...],
        path: IncrementPath,
        samples: int,
        training: Training,
        report: FitReport,
    ) -> None:
        """Add a network, trained by flow matching on what the affine field leaves of the velocities."""
        states = torch.from_numpy(np.ascontiguousarray(train)).to(self.dtype)
        steps, p = states.shape[1] - 1, states.shape[2]
        rest = np.diff(train, axis=1) - self.affine(train[:, :-1])
        self.center = states.mean(dim=(0, 1))
        self.spread = states.std(dim=(0, 1)).clamp_min(1e-12)
        self.unit = float(np.sqrt(np.square(rest).mean())) or 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            field = self.field = VectorField(p, hidden).to(self.dtype)
        matrix = torch.from_numpy(self.affine.matrix).to(self.dtype)
        offset = torch.from_numpy(self.affine.offset).to(self.dtype)

        def loss(runs: Tensor, generator: torch.Generator) -> Tensor:
            times = max(samples // len(runs), 1)
            k = torch.randint(0, steps - path.span + 1, (len(runs), times), generator=generator)
            x0 = states[runs[:, None], k].flatten(0, 1)
            x1 = states[runs[:, None], k + path.span].flatten(0, 1)
            _, location, velocity = path.sample_location_and_conditional_flow(
                x0, x1, generator=generator
            )
            target = (velocity - location @ matrix.T - offset) / self.unit
            value = field((location - self.center) / self.spread)
            return (value - target).square().mean()

        def validate() -> float:
            forecast = self.forecast(held[:, observed], held.shape[1] - 1 - observed)
            return float(np.square(forecast - held[:, observed + 1 :]).mean())

        train_module(field, loss, len(train), validate, training, report)

    @torch.no_grad()
    def velocity(self, w: Tensor) -> Tensor:
        """(batch, p) velocity per step at the weights (batch, p)."""
        matrix = torch.from_numpy(self.affine.matrix).to(w)
        v = w @ matrix.T + torch.from_numpy(self.affine.offset).to(w)
        if self.field is not None:
            v = v + self.unit * self.field((w - self.center) / self.spread)
        return v

    def forecast(
        self, last: np.ndarray, horizon: int, method: str = "euler", substeps: int = 1
    ) -> np.ndarray:
        """(runs, horizon, p) from the last observed weights (runs, p)."""
        start = torch.from_numpy(np.array(last, dtype=np.float64)).to(self.dtype)
        states = integrate(lambda t, w: self.velocity(w), start, horizon, method, substeps)
        return states.transpose(0, 1).to(torch.float64).numpy()
