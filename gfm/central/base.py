"""The common part of all processes of a run: weights and optimizer state, observed and advanced step by step."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfm.central.settings import Settings
from gfm.curvature import Spectrum, Tracker
from gfm.linalg.eigen import default_tolerance
from gfm.linalg.preconditioner import MatrixPreconditioner
from gfm.optimizers import Optimizer, State
from gfm.problem import Problem
from gfm.problem.derivatives import Derivatives

__all__ = ["Flow", "Observation", "Process", "flat_value", "to_numpy"]

Observation = dict[str, float | np.ndarray]


class Process(ABC):
    """A sequence of weights (p,); ``alive`` becomes False when its numbers are no longer finite or it is stopped.

    A subclass with more state than this class extends ``state_dict`` and ``load_state_dict``, so that a resumed
    run continues bit for bit. State dicts are taken between steps, after ``advance`` and before ``observe``, and
    contain only tensors and plain containers.
    """

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        self.problem, self.optimizer, self.settings = problem, optimizer, settings
        self.w, self.state = w, state
        self.alive = True
        count = min(settings.coordinates, problem.p)
        self.coordinates = torch.linspace(0, problem.p - 1, count).round().long().to(problem.device)
        self.tracker = Tracker(
            above=0.75 * optimizer.threshold, initial=settings.track, cap=settings.cap, dense=settings.dense,
            **self.tracking(),
        )

    def tracking(self) -> dict[str, Any]:
        """Options of the tracker. The optimizer oscillates with period two: every second point is on a smooth path."""
        return {"tolerance": self.settings.discrete_tolerance, "lag": 1 if self.settings.eigen_every % 2 == 0 else 2}

    @abstractmethod
    def observe(self, t: int) -> Observation:
        """Measure at the start of step ``t``; quantities left out are NaN in the result."""

    @abstractmethod
    def advance(self) -> None:
        """Move by one step, after ``observe``."""

    def state_dict(self) -> dict[str, Any]:
        """All state that the process needs to continue."""
        return {
            "w": self.w, "state": vars(self.state), "alive": self.alive, "tracker": self.tracker.state_dict(),
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Continue from the ``state_dict`` of a process of the same kind, with the same settings and problem."""
        self.w, self.alive = kept["w"], kept["alive"]
        self.state = type(self.state)(**kept["state"])
        self.tracker.load_state_dict(kept["tracker"])

    def observation(self, point: Derivatives, spectrum: Spectrum | None) -> Observation:
        """What every process records at a point; the spectrum is None if nothing is tracked there."""
        seen: Observation = {
            "loss": float(point.loss),
            "gradient_norm2": float(point.gradient @ point.gradient),
        }
        P = self.optimizer.preconditioner(self.state)
        if not isinstance(P, MatrixPreconditioner):
            seen["effective_step"] = 1.0 / float(P.mean() if isinstance(P, Tensor) else P)
        if callable(self.optimizer.lr):
            seen["lr"] = self.optimizer.lr_at(self.state.t)
        if self.state.nu is not None:
            seen["nu_mean"] = float(self.state.nu.mean())
        if self.settings.coordinates:
            seen["gradient2_at"] = to_numpy(point.gradient[self.coordinates]) ** 2
            if self.state.nu is not None and self.state.nu.ndim:
                seen["nu_at"] = to_numpy(self.state.nu[self.coordinates])
        if spectrum is not None:
            seen["eigenvalues"] = to_numpy(spectrum.values)
            seen["residuals"] = to_numpy(spectrum.residuals)
            seen["eigen_products"] = float(spectrum.products)
        return seen


class Flow(Process):
    """A flow; it starts after one discrete update of the state, since its nu is the average after the update."""

    follows_all = True  # every critical eigenvalue is tracked

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        self.state = optimizer.update(state, problem.gradient(w))

    def tracking(self) -> dict[str, Any]:
        """Tolerance of the tracked eigenpairs, and whether their number may grow."""
        settings = self.settings
        if not self.follows_all:
            return {"tolerance": settings.discrete_tolerance, "grow": False}
        # A residual of 1e-5 adds a thousandth of the discretisation error.
        usual = max(1e-5, default_tolerance(self.problem.dtype))
        return {"tolerance": usual if settings.tolerance is None else settings.tolerance, "grow": True}

    def look(self, time: float, tolerance: float = 0.0) -> tuple[Derivatives, Spectrum]:
        """The derivatives at the present weights, which are those at ``time``, and the tracked eigenpairs."""
        point, tracker = self.problem.at(self.w, self.tracker.width), self.tracker
        spectrum = tracker.refresh(point, self.optimizer.edge(self.state), time=time, tolerance=tolerance)
        if tracker.capped:
            warnings.warn(
                f"all {tracker.cap} tracked eigenvalues are above {tracker.above:g}; raise the cap, or the flow will "
                "miss critical directions", stacklevel=3,
            )
        return point, spectrum

    def substeps_for(self, rate: float) -> int:
        """Number of Euler substeps in a step: at least ``rate``, and at least the rate at which nu relaxes.

        Euler's method decays without oscillation if the substep times the rate of decay is at most 1, and is unstable
        beyond 2. Exponential steps along the tracked directions would save little, since directions below 0.75 of the
        threshold would still need Euler's method: at momentum 0.9, 26 substeps instead of 35.
        """
        memory = self.optimizer.memory(self.state)
        return max(self.settings.substeps, math.ceil(max(rate, memory.rate if memory else 0.0)))

    def top_rate(self, spectrum: Spectrum) -> float:
        """The largest eigenvalue of P^{-1} H, the rate at which the weights relax; the spectrum is that of E."""
        share = self.optimizer.edge_share(self.state)
        return float(spectrum.values[0]) * (1.0 if share is None else float(torch.as_tensor(share).max()))

    def move(self, w_rate: Tensor, state_rate: State, dt: float) -> None:
        """One Euler substep of ``dt`` of the weights (p,) and the state."""
        self.w = torch.add(self.w, w_rate, alpha=dt)
        self.state = self.state.moved(state_rate, dt)


def flat_value(function: Callable[[Tensor], Tensor], w: Tensor) -> np.ndarray:
    """The value of a function of the weights (p,), flattened, without a gradient graph."""
    with torch.no_grad():
        return to_numpy(function(w)).reshape(-1)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The tensor as a float64 array of the same shape on the host."""
    return tensor.detach().double().cpu().numpy()
