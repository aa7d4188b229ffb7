"""The processes that a run carries side by side: discrete, midpoint, stable flow, central flow.

Each holds weights and optimizer state, tells what it sees at the start of a step (``observe``) and
moves by one step (``advance``). What is not measured is absent and becomes NaN in the result.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.central.substep import Local, Oscillation, local_flow
from gfm.curvature import Spectrum, Tracker
from gfm.optimizers import Optimizer, State
from gfm.point import Point
from gfm.problem import Costs, Problem

__all__ = ["PROCESSES", "Central", "Discrete", "Midpoint", "Process", "Settings", "Stable"]

Observation = dict[str, float | np.ndarray]


@dataclass(frozen=True)
class Settings:
    """What the processes share.

    substeps: Euler substeps a step, at least. adaptive: halve the central flow's substep where its
    top effective eigenvalue passes the edge by more than ``band`` (relative), down to 1/16 of it.
    critical_share, curvature_penalty: see ``local_flow``.
    eigen_every: steps between eigenvalue measurements of discrete and midpoint processes.
    track: eigenpairs at least (exactly so many for the stable flow). cap: at most.
    tolerance: relative residual of the flows' eigenpairs. discrete_tolerance: of those of discrete
    and midpoint processes, where nothing depends on them (an eigenvalue's error is the square).
    max_effective: a stable flow with a larger effective eigenvalue is stopped, since its substeps
    would never end. coordinates: of so many evenly spaced weights, the squared gradient and the
    second-moment average are recorded one by one.
    """

    substeps: int = 4
    adaptive: bool = True
    band: float = 1e-3
    critical_share: float = 0.975
    curvature_penalty: bool = True
    eigen_every: int = 1
    track: int = 1
    cap: int = 12
    tolerance: float | None = None
    discrete_tolerance: float = 1e-3
    max_effective: float = 100.0
    coordinates: int = 0


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
        return Tracker(
            above=0.75 * self.optimizer.threshold,
            initial=settings.track,
            cap=settings.cap,
            tolerance=settings.discrete_tolerance,
            lag=2,
        )

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
        if self.state.nu is not None:
            seen["nu_mean"] = float(self.state.nu.mean())
        if self.settings.coordinates:
            seen["gradient2_at"] = _numpy(point.gradient[self._chosen]) ** 2
            if self.state.nu is not None and self.state.nu.ndim:
                seen["nu_at"] = _numpy(self.state.nu[self._chosen])
        if spectrum is not None:
            seen["eigenvalues"] = _numpy(spectrum.values)
            seen["residuals"] = _numpy(spectrum.residuals)
            seen["eigen_products"] = float(spectrum.products)
        return seen


class Discrete(Process):
    """The optimizer itself."""

    def observe(self, t: int) -> Observation:
        measure = t % self.settings.eigen_every == 0
        point = self.problem.at(self.w, self.tracker.width if measure else 1)
        self.gradient = point.gradient
        self.state = self.optimizer.update(self.state, point.gradient)
        spectrum = self.tracker.refresh(point, self.optimizer.preconditioner(self.state)) if measure else None
        return self._seen(point, spectrum)

    def advance(self) -> None:
        self.w = self.optimizer.step(self.w, self.state, self.gradient)


class Midpoint(Process):
    """(w_{t-1} + 2 w_t + w_{t+1}) / 4 along the optimizer's path: period-two oscillation cancels."""

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        self._previous, self._present = w, w
        self._next()

    def _next(self) -> None:
        gradient = self.problem.gradient(self._present)
        self.state = self.optimizer.update(self.state, gradient)
        self._following = self.optimizer.step(self._present, self.state, gradient)
        self.w = (self._previous + 2 * self._present + self._following) / 4

    def observe(self, t: int) -> Observation:
        measure = t % self.settings.eigen_every == 0
        point = self.problem.at(self.w, self.tracker.width if measure else 1)
        spectrum = self.tracker.refresh(point, self.optimizer.preconditioner(self.state)) if measure else None
        return self._seen(point, spectrum)

    def advance(self) -> None:
        self._previous, self._present = self._present, self._following
        self._next()


class _Flow(Process):
    """A flow starts from one discrete update of the state: its nu is the average after the update."""

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        self.state = optimizer.update(state, problem.gradient(w))

    def _tracker(self) -> Tracker:
        settings = self.settings
        return Tracker(
            above=0.75 * self.optimizer.threshold,
            initial=settings.track,
            cap=settings.cap,
            tolerance=settings.tolerance,
            grow=self.follows_all,
        )

    follows_all = True

    def _open(self) -> tuple[Point, Spectrum]:
        point = self.problem.at(self.w, self.tracker.width)
        return point, self.tracker.refresh(point, self.optimizer.preconditioner(self.state))

    def _move(self, w_rate: Tensor, state_rate: State, dt: float) -> None:
        self.w = self.w + dt * w_rate
        self.state = self.state.moved(state_rate, dt)


class Stable(_Flow):
    """The flow without oscillation: gradient flow for gradient descent."""

    follows_all = False  # only the largest eigenvalue bounds its substeps

    def observe(self, t: int) -> Observation:
        self._point, spectrum = self._open()
        self._top = float(spectrum.values[0])
        seen = self._seen(self._point, spectrum)
        if self._top > self.settings.max_effective:
            self.alive = False
        return seen

    def advance(self) -> None:
        # Euler is stable on this flow only while its step times the top eigenvalue is below 2.
        count = max(self.settings.substeps, math.ceil(2 * self._top))
        gradient = self._point.gradient
        for s in range(count):
            if s:
                gradient = self.problem.gradient(self.w)
            P = self.optimizer.preconditioner(self.state)
            self._move(-gradient / P, self.optimizer.rates(self.state, gradient), 1.0 / count)
        self._point = None


class Central(_Flow):
    """The central flow: the optimizer's time-averaged path."""

    oscillation: Oscillation | None = None
    _shrink = 1  # the present substep is 1 / (substeps * shrink)
    _before: np.ndarray | None = None  # eigenvalues one step earlier

    def observe(self, t: int) -> Observation:
        point, spectrum = self._open()
        c = self.optimizer.threshold
        values = _numpy(spectrum.values)
        # Directions that may turn critical within the step; the others need no derivatives.
        rise = np.zeros(len(values))
        if self._before is not None:
            shared = min(len(values), len(self._before))
            rise[:shared] = np.maximum(values[:shared] - self._before[:shared], 0)
        self._before = values
        chosen = (values > 0.9 * c) | (values + 2 * rise > c)
        self._candidates, self._rise = spectrum.U[chosen.tolist()], rise[chosen]
        self._local = self._flow(point, self._rise * self._dt)
        seen = self._seen(point, spectrum)
        self._rates = self._local.rates(self._dt)
        self.oscillation = self._rates.oscillation
        seen.update(self._predictions(seen))
        seen["substeps"] = 1.0 / self._dt
        return seen

    @property
    def _dt(self) -> float:
        return 1.0 / (self.settings.substeps * self._shrink)

    def _flow(self, point: Point, rise: np.ndarray) -> Local:
        return local_flow(
            point, self.optimizer, self.state, self._candidates, rise=rise,
            critical_share=self.settings.critical_share,
            curvature_penalty=self.settings.curvature_penalty,
        )

    def _predictions(self, seen: Observation) -> Observation:
        """Time averages over the oscillation: E L = L + c/2 <P, Sigma>, E |g|^2 = |grad L|^2 + tr(H Sigma H)."""
        coordinates = "gradient2_at" in seen
        if self.oscillation is None:
            nothing = {
                "predicted_loss": seen["loss"],
                "predicted_gradient_norm2": seen["gradient_norm2"],
                "sigma": np.zeros(0),
                "critical": 0.0,
            }
            return nothing | ({"predicted_gradient2_at": seen["gradient2_at"]} if coordinates else {})
        found = self.oscillation
        c = self.optimizer.threshold
        lifted = c * found.U * self.optimizer.preconditioner(self.state)  # H u on critical directions
        squares = _numpy(lifted @ lifted.T)
        extra = {}
        if coordinates:
            at = _numpy(lifted[:, self._chosen])
            shares = np.einsum("ij,ic,jc->c", found.X, at, at)
            extra["predicted_gradient2_at"] = seen["gradient2_at"] + shares
        return extra | {
            "predicted_loss": seen["loss"] + 0.5 * c * found.trace(),
            "predicted_gradient_norm2": seen["gradient_norm2"] + float(np.sum(found.X * squares)),
            "sigma": np.linalg.eigvalsh(found.X)[::-1],
            "critical": float(len(found.X)),
            "complementarity_residual": found.solution.residual,
            "complementarity_gap": found.solution.gap,
        }

    def expectation(self, function: Callable[[Tensor], Tensor]) -> np.ndarray:
        """E F(w + delta) = F(w) + 1/2 <D^2 F, Sigma> of a function of the weights, flattened.

        Second differences along the eigenvectors of Sigma, at a step that balances rounding and
        truncation.
        """
        center = _flat_value(function, self.w)
        if self.oscillation is None:
            return center
        variances, turn = np.linalg.eigh(self.oscillation.X)
        h = torch.finfo(self.w.dtype).eps ** 0.25
        total = center.copy()
        for variance, column in zip(variances, turn.T, strict=True):
            if variance <= 0:
                continue
            weights = torch.tensor(column * np.sqrt(variance), dtype=self.w.dtype, device=self.w.device)
            d = h * (weights @ self.oscillation.U)
            second = _flat_value(function, self.w + d) - 2 * center + _flat_value(function, self.w - d)
            total += 0.5 * second / h**2
        return total

    def advance(self) -> None:
        """Euler substeps over one unit of time; a substep that passes the edge is taken again at half length."""
        local, rates, done, quiet = self._local, self._rates, 0.0, True
        rise = self._rise * self._dt
        while True:
            dt = self._dt
            w, state = self.w, self.state
            self._move(rates.w, rates.state, dt)
            if done + dt > 1.0 - 1e-9:
                break
            following = self._flow(self.problem.at(self.w, max(1, len(self._candidates))), rise)
            if self._passes(following) and self._shrink < 16:
                self.w, self.state, quiet = w, state, False
                self._shrink *= 2
                rates = local.rates(self._dt)  # the same derivatives serve the shorter substep
                continue
            rise = following.quotients - local.quotients
            done, local = done + dt, following
            rates = local.rates(dt)
        if quiet and self._shrink > 1:
            self._shrink //= 2
        self._local = self._rates = None

    def _passes(self, local: Local) -> bool:
        if not self.settings.adaptive or len(local.quotients) == 0:
            return False
        return float(local.quotients.max()) > self.optimizer.threshold * (1 + self.settings.band)

    def displacement(self, other: Tensor) -> np.ndarray:
        """(u^T P (other - w)) along each eigenvector of Sigma, largest variance first; other: (p,)."""
        if self.oscillation is None:
            return np.zeros(0)
        found = self.oscillation
        delta = (other - self.w) * self.optimizer.preconditioner(self.state)
        _, turn = np.linalg.eigh(found.X)
        return turn[:, ::-1].T @ _numpy(found.U @ delta)


PROCESSES: dict[str, type[Process]] = {
    "discrete": Discrete,
    "midpoint": Midpoint,
    "stable": Stable,
    "central": Central,
}


def _flat_value(function: Callable[[Tensor], Tensor], w: Tensor) -> np.ndarray:
    with torch.no_grad():
        return _numpy(function(w)).reshape(-1)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
