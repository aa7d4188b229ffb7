"""Two rivals of the central flow: Rod Flow and Edge Flow, for gradient descent.

Both follow a centre w and one swing delta = a u (u a unit vector) beside it, and need gradients g+ and g- of the loss
at w + delta and w - delta, products with the Hessian, and no eigenvectors. A unit of time is one optimizer step; with
the mean g = (g+ + g-) / 2 and half the difference d = (g+ - g-) / 2:

    Rod    dw/dt     = -(lr / 2)(g+ + g-) - (lr^2 / 8)(H+ + H-)(g+ + g-)
           dSigma/dt = (lr^2 / 4)(g+ g+^T + g- g-^T) - 2 Sigma
    Edge   dw/dt     = -lr g
           du/dt     = lr (H u - (u^T H u) u)
           d log a / dt = log |1 - lr s|,    s = u^T d / a

Rod Flow's source of Sigma is (lr^2 / 2)(g g^T + d d^T). The equation is linear, so Sigma has a part for each term: the
first is half a step of the smooth motion, the second the oscillation. Here Sigma = delta delta^T is the second part,
kept at rank one by projection on the tangent space of such matrices:

    da/dt = (lr^2 s^2 / 4 - 1) a,    du/dt = (lr^2 s / 2)(d / a - s u)

Of the first part a lower bound remains: a is at least (lr / 2) |u^T g|.

Source: Rod Flow (arXiv 2602.01480), by its formulas; the rank-one form is ours. Edge Flow (arXiv 2606.18080) is
reconstructed from its abstract: the symmetrised loss, the Rayleigh flow and the exponential amplitude are named there;
the rates and that s is the slope between the two ends are ours.
"""

import math
from abc import abstractmethod
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfm.central.base import Flow, Observation
from gfm.central.settings import Settings
from gfm.errors import NumericalError
from gfm.optimizers import Optimizer, State
from gfm.problem import Costs, Problem
from gfm.problem.derivatives import Derivatives

__all__ = ["EdgeFlow", "Rival", "RodFlow"]


class _Ends(NamedTuple):
    """The loss's derivatives at w + a u and w - a u, with g, d / a and s of the module's formulas."""

    plus: Derivatives
    minus: Derivatives
    mean: Tensor
    slope: Tensor
    s: float


class Rival(Flow):
    """A flow with a swing of its own. ``spent`` counts the derivatives that move it, not those that only measure it."""

    follows_all = False

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        before = problem.costs.copy()
        # The swing starts as half of the first step, along the gradient; it turns to the top eigenvector.
        self.least = math.sqrt(torch.finfo(w.dtype).eps)
        gradient = problem.gradient(w)
        size = float(gradient.norm())
        self.u = gradient / size if size > 0 else torch.full_like(w, problem.p**-0.5)
        self.a = max(0.5 * self.lr * size, self.least)
        self.spent = problem.costs.since(before)
        self._point: _Ends | None = None

    @property
    def lr(self) -> float:
        """The learning rate of the present step."""
        return self.optimizer.lr_at(self.state.t)

    @property
    def variance(self) -> float:
        """The variance a^2 of the swing in the unit of the central flow's sigma: of u^T P delta with u^T P u = 1."""
        return self.a**2 / self.lr

    def displacement(self, w: Tensor) -> np.ndarray:
        """(1,) how far other weights w (p,) are along the swing, in the same unit."""
        return np.array([float(self.u @ (w - self.w)) / math.sqrt(self.lr)])

    def state_dict(self) -> dict[str, Any]:
        """See ``Process``."""
        return super().state_dict() | {"u": self.u, "a": self.a, "spent": asdict(self.spent)}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """See ``Process``."""
        super().load_state_dict(kept)
        self.u, self.a, self.spent = kept["u"], kept["a"], Costs(**kept["spent"])

    def observe(self, t: int) -> Observation:
        """See ``Process``."""
        measure = t % self.settings.eigen_every == 0
        point = self.problem.at(self.w, self.tracker.width if measure else 1)
        spectrum = self.tracker.refresh(point, self.optimizer.edge(self.state)) if measure else None
        seen = self.observation(point, spectrum)
        del point
        before = self.problem.costs.copy()
        self._point = ends = self.ends()
        self._spend(before)
        if self.lr * ends.s > self.settings.max_effective:
            self.alive = False
        return seen | {
            "predicted_loss": 0.5 * float(ends.plus.loss + ends.minus.loss),
            "sigma": np.array([self.variance]),
            "spent_gradients": float(self.spent.gradients),
            "spent_products": float(self.spent.hvps),
        }

    def advance(self) -> None:
        """See ``Process``."""
        ends = self._point
        assert ends is not None  # from ``observe``
        self._point = None
        before = self.problem.costs.copy()
        count = self.substeps_for(0.9 * self.stiffness(self.lr * ends.s))
        for substep in range(count):
            if substep:
                ends = self.ends()
            self._substep(ends, 1.0 / count)
        self._spend(before)

    def ends(self) -> _Ends:
        """The derivatives at both ends of the swing.

        Raises:
            NumericalError: A derivative is not finite.
        """
        delta = self.a * self.u
        plus, minus = self.problem.at(self.w + delta), self.problem.at(self.w - delta)
        slope = (plus.gradient - minus.gradient) / (2 * self.a)
        s = float(self.u @ slope)
        if not math.isfinite(s):
            raise NumericalError("The gradients at the ends of its swing are not finite.")
        return _Ends(plus, minus, (plus.gradient + minus.gradient) / 2, slope, s)

    @abstractmethod
    def stiffness(self, level: float) -> float:
        """The rate at which the centre relaxes along a direction where lr times the curvature is ``level``."""

    @abstractmethod
    def rates(self, ends: _Ends) -> tuple[Tensor, Tensor, float]:
        """dw/dt (p,), du/dt (p,) and d log a / dt."""

    def _substep(self, ends: _Ends, dt: float) -> None:
        """Euler's method for w and u, and the exact exponential for a."""
        w_rate, u_rate, growth = self.rates(ends)
        turned = torch.add(self.u, u_rate, alpha=dt)
        self.u = turned / turned.norm()
        self.a = max(self.a * math.exp(dt * growth), 0.5 * self.lr * abs(float(self.u @ ends.mean)), self.least)
        self.move(w_rate, self.optimizer.rates(self.state, ends.mean), dt)

    def _spend(self, before: Costs) -> None:
        now = self.problem.costs.since(before)
        self.spent = Costs(**{name: value + getattr(now, name) for name, value in asdict(self.spent).items()})


class RodFlow(Rival):
    """Rod Flow: 2 gradients and 2 products in a substep."""

    def stiffness(self, level: float) -> float:
        """See ``Rival``."""
        return level + level**2 / 2

    def rates(self, ends: _Ends) -> tuple[Tensor, Tensor, float]:
        """See ``Rival``."""
        lr, s = self.lr, ends.s
        both = 2 * ends.mean
        bent = ends.plus.hvp(both[None])[0] + ends.minus.hvp(both[None])[0]
        w_rate = -(lr / 2) * both - (lr**2 / 8) * bent
        return w_rate, (lr**2 * s / 2) * (ends.slope - s * self.u), lr**2 * s**2 / 4 - 1


class EdgeFlow(Rival):
    """Edge Flow, reconstructed: 2 gradients and 1 product in a substep, whose graph at the centre takes a third."""

    def stiffness(self, level: float) -> float:
        """See ``Rival``."""
        return level

    def rates(self, ends: _Ends) -> tuple[Tensor, Tensor, float]:
        """See ``Rival``."""
        lr = self.lr
        image = self.problem.hvp(self.w, self.u)
        u_rate = lr * (image - (self.u @ image) * self.u)
        return -lr * ends.mean, u_rate, math.log(max(abs(1 - lr * ends.s), self.least))
