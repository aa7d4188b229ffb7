"""The memoryless field v(w) of all weights together, for runs that share one task.

If all runs descend the same loss, the weights determine the future, and the plain field of the
paper, v(w, t), is well defined. Its affine part has the form v(w) = -K (w - w*) of gradient descent on a
quadratic; a network that sees all weights adds a correction.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import train_module
from gfm.matching.field import numbers_in, perceptron
from gfm.matching.flow import Flow
from gfm.matching.integrate import Solver, integrate
from gfm.matching.loss import flow_matching_loss
from gfm.trajectories import Trajectories

__all__ = ["MOST", "AffineVectorField", "VectorFlow"]

MOST = 64
"""The largest number of weights of the vector view; the number of entries of K is its square."""


@dataclass(frozen=True)
class AffineVectorField:
    """v(w) = A w + b per recorded state, with A = -K and b = K w* in the notation of this module.

    Args:
        matrix: (p, p) A.
        offset: (p,) b.
    """

    matrix: np.ndarray
    offset: np.ndarray

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Velocities (..., p) per recorded state at weights (..., p)."""
        return weights @ self.matrix.T + self.offset

    @classmethod
    def match(cls, weights: np.ndarray, passes: int = 3) -> "AffineVectorField":
        """Match the field to all increments of recorded runs (runs, steps+1, p), in closed form.

        The noise of stochastic gradients grows with the distance to the optimum. So after a first plain fit every
        squared residual is divided by that squared distance plus a hundredth of its median, which matters for runs that
        reach the optimum (feasible generalised least squares).
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


class VectorFlow(Flow):
    """The flow of a field of all weights: affine, or with a network beside the affine part.

    The field is memoryless: a forecast uses only the last observed state.
    """

    view = "vector"
    coordinatewise = False

    @classmethod
    def suits(cls, train: Trajectories) -> bool:
        """Whether there are at most ``MOST`` weights."""
        return train.parameters <= MOST

    def fit(self, train: Trajectories, held: Trajectories, report: FitReport) -> np.ndarray:
        """Match the field to the training runs; returns the (runs,) errors of its held-out forecasts.

        The affine part is matched in closed form, the network, if there is one, by gradient descent.

        Raises:
            InputError: There are more than ``MOST`` weights.
        """
        if not self.suits(train):
            raise InputError(
                f"The vector view takes at most {MOST} weights; got {train.parameters}. Use view='coordinate'."
            )
        self.network = None
        self.affine = AffineVectorField.match(train.weights)
        if self.options.network is not None:
            self._train(train, held, report)
        return self.errors(held)

    @property
    def size(self) -> int:
        """How many numbers were fitted, the network's included."""
        return self.affine.matrix.size + self.affine.offset.size + numbers_in(self.network)

    def _train(self, train: Trajectories, held: Trajectories, report: FitReport) -> None:
        """Train a network by conditional flow matching on the velocities minus the affine field."""
        asked, path, training = self.options.network, self.options.path, self.options.training
        assert asked is not None
        dtype = self.options.solver.torch_dtype
        states = torch.from_numpy(np.ascontiguousarray(train.weights)).to(report.device, dtype)
        steps = states.shape[1] - 1
        rest = np.diff(train.weights, axis=1) - self.affine(train.weights[:, :-1])
        self.center = states.mean(dim=(0, 1))
        self.spread = states.std(dim=(0, 1)).clamp_min(1e-12)
        self.unit = float(np.sqrt(np.square(rest).mean())) or 1.0
        matrix, offset = self._affine_tensors(states)
        self.rebuild()
        network = self.network
        assert network is not None

        def loss(runs: Tensor, generator: torch.Generator) -> Tensor:
            k = torch.randint(0, steps - path.span + 1, (len(runs), asked.times), generator=generator)
            return flow_matching_loss(
                lambda w, _: network((w - self.center) / self.spread),
                path,
                states[runs[:, None], k].flatten(0, 1),
                states[runs[:, None], k + path.span].flatten(0, 1),
                k.flatten().to(states.device),
                lambda w, velocity: (velocity - w @ matrix.T - offset) / self.unit,
                generator,
            )

        train_module(network, loss, train.runs, lambda: float(self.errors(held).mean()), training, report, True)
        self.center, self.spread = self.center.cpu(), self.spread.cpu()

    def rebuild(self) -> None:
        """Make the network, with its initial weights."""
        asked, training, p = self.options.network, self.options.training, len(self.center)
        assert asked is not None
        self.network = perceptron(p, asked.hidden, p, training.seed, self.options.solver.torch_dtype)

    def _affine_tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.affine.matrix).to(like), torch.from_numpy(self.affine.offset).to(like)

    @torch.no_grad()
    def velocity(self, w: Tensor) -> Tensor:
        """(batch, p) velocity per recorded state at the weights (batch, p)."""
        matrix, offset = self._affine_tensors(w)
        v = w @ matrix.T + offset
        if self.network is not None:
            v = v + self.unit * self.network((w - self.center) / self.spread)
        return v

    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, starting from its last one."""
        device = "cpu" if self.network is None else self.center.device  # it differs during training only
        start = torch.from_numpy(prefix.final.astype(np.float64)).to(device, self.options.solver.torch_dtype)
        states = integrate(lambda t, w: self.velocity(w), start, horizon, solver)
        return states.transpose(0, 1).to(torch.float64).cpu().numpy()
