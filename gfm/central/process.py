"""What every process of a run is: weights and state that are observed and advanced step by step.

Each holds weights and optimizer state, tells what it sees at the start of a step (``observe``) and
moves by one step (``advance``). What is not measured is absent and becomes NaN in the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gfm.central.settings import Settings
from gfm.curvature import Spectrum, Tracker
from gfm.optimizers import Optimizer, State
from gfm.problem import Costs, Problem
from gfm.problem.derivatives import Point

__all__ = ["Flow", "Observation", "Process", "Settings", "flat_value", "to_numpy"]

Observation = dict[str, float | np.ndarray]


class Process(ABC):
    """One way of moving; ``alive`` turns False when it leaves the finite numbers or is stopped."""

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        self.problem, self.optimizer, self.settings = problem, optimizer, settings
        self.w, self.state = w, state
        self.costs = Costs()
        self.seconds = 0.0
        self.alive = True
        count = min(settings.coordinates, problem.p)
        self._chosen = torch.linspace(0, problem.p - 1, count).round().long()
        self.tracker = self._tracker()

    def _tracker(self) -> Tracker:
        settings = self.settings
        above = 0.75 * self.optimizer.threshold
        return Tracker(above=above, initial=settings.track, cap=settings.cap, dense=settings.dense, **self._tracking())

    def _tracking(self) -> dict[str, float | bool | None]:
        """Tracking of the oscillating optimizer, whose path has period two: every second point lies on a smooth one."""
        return {"tolerance": self.settings.discrete_tolerance, "lag": 1 if self.settings.eigen_every % 2 == 0 else 2}

    @abstractmethod
    def observe(self, t: int) -> Observation:
        """What is seen at step ``t``, before moving."""

    @abstractmethod
    def advance(self) -> None:
        """Move by one step."""

    def _seen(self, point: Point, spectrum: Spectrum | None) -> Observation:
        seen: Observation = {
            "loss": float(point.loss),
            "gradient_norm2": float(point.gradient @ point.gradient),
        }
        P = self.optimizer.preconditioner(self.state)
        seen["effective_step"] = 1.0 / float(P.mean() if isinstance(P, Tensor) else P)
        if callable(self.optimizer.lr):
            seen["lr"] = self.optimizer.lr_at(self.state.t)
        if self.state.nu is not None:
            seen["nu_mean"] = float(self.state.nu.mean())
        if self.settings.coordinates:
            seen["gradient2_at"] = to_numpy(point.gradient[self._chosen]) ** 2
            if self.state.nu is not None and self.state.nu.ndim:
                seen["nu_at"] = to_numpy(self.state.nu[self._chosen])
        if spectrum is not None:
            seen["eigenvalues"] = to_numpy(spectrum.values)
            seen["residuals"] = to_numpy(spectrum.residuals)
            seen["eigen_products"] = float(spectrum.products)
        return seen


class Flow(Process):
    """A flow starts from one discrete update of the state: its nu is the average after the update."""

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        self.state = optimizer.update(state, problem.gradient(w))

    def _tracking(self) -> dict[str, float | bool | None]:
        settings = self.settings
        tolerance = settings.tolerance if self.follows_all else settings.discrete_tolerance
        return {"tolerance": tolerance, "grow": self.follows_all}

    follows_all = True

    def _open(self, tolerance: float = 0.0) -> tuple[Point, Spectrum]:
        point = self.problem.at(self.w, self.tracker.width)
        return point, self.tracker.refresh(point, self.optimizer.preconditioner(self.state), tolerance=tolerance)

    def _move(self, w_rate: Tensor, state_rate: State, dt: float) -> None:
        self.w = torch.add(self.w, w_rate, alpha=dt)
        self.state = self.state.moved(state_rate, dt)


def flat_value(function: Callable[[Tensor], Tensor], w: Tensor) -> np.ndarray:
    """A function of the weights (p,), flattened, without graph."""
    with torch.no_grad():
        return to_numpy(function(w)).reshape(-1)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """float64, on the host, cut off from any graph."""
    return tensor.detach().double().cpu().numpy()
