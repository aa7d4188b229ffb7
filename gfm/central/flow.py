"""The central flow as a process: Euler substeps of the averaged motion, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfm.central.process import Flow, Observation, flat_value, to_numpy
from gfm.central.substep import Local, Oscillation, local_flow
from gfm.curvature import Spectrum
from gfm.linalg import deflation
from gfm.optimizers import State
from gfm.problem.derivatives import Point

__all__ = ["Central"]

#: How often a step may be taken again, and by how much its substeps may shrink.
_RETAKES, _SHRINK = 5, 16
#: Half the length leaves about half the excess, or less; where more than this share stays, it has another cause.
_HELPED = 0.7
#: Relative residual of eigenvectors that serve a single substep, unless a tolerance is asked for.
_COARSE = 3e-4
#: How far jumps of the curvature may widen the band, as a share of the threshold, and what stays of it a step later.
_JUMP, _LASTING = 2e-3, 0.9
#: The same where even the shortest substep ends beyond the band.
_ROUGH = 2e-2


class _Again(NamedTuple):
    """A substep that is taken again in shorter ones: its end, its excess over the edge, and what held before it."""

    end: float
    excess: float
    shrink: int
    quiet: bool


class Central(Flow):
    """The central flow: the optimizer's time-averaged path."""

    oscillation: Oscillation | None = None
    _shrink = 1  # the present substep is 1 / (substeps * shrink)
    _jump = 0.0  # by how much the band is wider, after jumps of the curvature
    _before: np.ndarray | None = None  # eigenvalues one step earlier
    _began: dict[str, Any] | None = None  # weights and state at the start of the step just taken

    def observe(self, t: int) -> Observation:
        self.oscillation = self._candidates = None  # their memory may go before new eigenvectors are sought
        point, spectrum, retaken = self._opened()
        values = to_numpy(spectrum.values)
        rise = _risen(values, self._before)
        self._before = values
        # Directions that may turn critical within the step; the others need no derivatives.
        c = self.optimizer.threshold
        chosen = (values > min(0.95, self.settings.critical_share) * c) | (values + 2 * rise > c)
        self._candidates, self._rise = spectrum.U[chosen.tolist()], rise[chosen]
        seen = self._seen(point, spectrum)
        del spectrum
        self._local = self._flow(point, self._rise * self._dt)
        self._rates = self._local.rates(self._dt)
        self.oscillation = self._rates.oscillation
        seen.update(self._predictions(seen))
        if self._rates.nu_push is not None:
            seen["nu_push"] = float(self._rates.nu_push.mean())
        seen["substeps"] = 1.0 / self._dt
        seen["retaken"] = float(retaken)
        return seen

    def _opened(self) -> tuple[Point, Spectrum, int]:
        """The point with its eigenpairs, and how often the step that led here was taken again.

        Within a step the eigenvectors are those of its start. Where the fresh ones show the flow beyond
        its band, they have turned meanwhile: the step is taken again with new ones in every substep.
        """
        point, spectrum = self._open()
        top, retaken, hopeful = float(spectrum.values[0]), 0, True
        while self._began is not None and self._beyond(top) and hopeful and retaken < _RETAKES:
            shrink = self._shrink
            if retaken:
                self._shrink = min(2 * shrink, _SHRINK)
            self.w, self.state = self._began["w"], State(**self._began["state"])
            if "rows" in self._began:
                self.tracker.restart(self._began["rows"])
            del point, spectrum  # their memory serves the new substeps
            self._advance_afresh()
            point, spectrum = self._open()
            before, top, retaken = top, float(spectrum.values[0]), retaken + 1
            c = self.optimizer.threshold
            hopeful = retaken == 1 or top - c < _HELPED * (before - c)
            if not hopeful:
                self._shrink = shrink
                self._widen(top - c)
        return point, spectrum, retaken

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
        squares = to_numpy(lifted @ lifted.T)
        extra = {}
        if coordinates:
            at = to_numpy(lifted[:, self._chosen])
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
        center = flat_value(function, self.w)
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
            second = flat_value(function, self.w + d) - 2 * center + flat_value(function, self.w - d)
            total += 0.5 * second / h**2
        return total

    def advance(self) -> None:
        """Euler substeps over one unit of time; a substep that passes the edge is taken again at half length."""
        self._began = {"w": self.w, "state": vars(self.state)} if self.settings.adaptive else None
        if self._began and self.tracker.rows.numel() <= deflation.LARGE:
            self._began["rows"] = self.tracker.rows
        if self.settings.refresh_substeps:
            self._advance_afresh()
        else:
            self._advance_along(self._candidates)
        self._local = self._rates = None
        self._jump *= _LASTING

    def _advance_along(self, rows: Tensor) -> None:
        """One step along the eigenvectors ``rows`` (k, p) of its start."""
        local, rates, done, quiet, again = self._local, self._rates, 0.0, True, None
        self._local = self._rates = None
        rise = led = self._rise * self._dt
        frugal = rows.numel() > deflation.LARGE  # the way back is to the step's start, with its derivatives computed again
        back = None
        while True:
            dt = min(self._dt, 1.0 - done)
            quotients = local.quotients
            if self.settings.adaptive and not (frugal and back):
                back = self.w, self.state, done, led
            self._move(rates.w, rates.state, dt)
            if done + dt > 1.0 - 1e-9:
                break
            del rates
            if frugal or not self.settings.adaptive:
                local = None
            following = self._flow(self.problem.at(self.w, max(1, len(rows))), rise)
            top = following.quotients.max(initial=0.0)
            if self._beyond(top):
                excess = top - self.optimizer.threshold
                if again is not None and excess > _HELPED * again.excess:
                    # A jump of the curvature (a kink of the activation) is as large in the shortest substep.
                    self._shrink, quiet, again = again.shrink, again.quiet, None
                    self._widen(excess)
                elif self._shrink < _SHRINK:
                    again = _Again(done + dt, excess, self._shrink, quiet)
                    self._shrink, quiet = 2 * self._shrink, False
                    self.w, self.state, done, led = back
                    del following
                    local = local or self._flow(self.problem.at(self.w, max(1, len(rows))), led)
                    rates = local.rates(self._dt)  # the same derivatives serve the shorter substep
                    continue
                else:
                    # Beyond even so: the curvature is rough (ReLU), and short substeps are lost on it for a while.
                    self._shrink, quiet, again = 1, False, None
                    self._widen(excess, _ROUGH)
            rise, led = following.quotients - quotients, rise
            done, local = done + dt, following
            del following
            if again is not None and done > again.end - 1e-9:
                again = None
            rates = local.rates(min(self._dt, 1.0 - done))
        if quiet and self._shrink > 1:
            self._shrink //= 2

    def _advance_afresh(self) -> None:
        """One step with eigenvectors computed in every substep."""
        before = None
        for _ in range(self.settings.substeps * self._shrink):
            point, spectrum = self._open(_COARSE if self.settings.tolerance is None else 0.0)
            values = to_numpy(spectrum.values)
            rise = _risen(values, before)
            c = self.optimizer.threshold
            chosen = (values > self.settings.critical_share * c) | (values + rise > c)
            self._candidates = spectrum.U[chosen.tolist()]
            del spectrum
            rates = self._flow(point, rise[chosen]).rates(self._dt)
            del point
            self._candidates = None
            self._move(rates.w, rates.state, self._dt)
            del rates
            before = values

    def _beyond(self, top: float) -> bool:
        band = self.settings.band
        if band is None:
            exact = self.w.dtype == torch.float64
            # A preconditioner that moves turns the eigenvectors within each step: 1e-4 would redo them all.
            band = 1e-3 if not exact else 1e-4 if self.optimizer.memory(self.state) is None else 5e-4
        return self.settings.adaptive and top > self.optimizer.threshold * (1 + band) + self._jump

    def _widen(self, excess: float, most: float = _JUMP) -> None:
        """For a while an excess as large as one that no shorter substep takes away is let be."""
        self._jump = max(self._jump, min(excess, most * self.optimizer.threshold))

    def displacement(self, other: Tensor) -> np.ndarray:
        """(u^T P (other - w)) along each eigenvector of Sigma, largest variance first; other: (p,)."""
        if self.oscillation is None:
            return np.zeros(0)
        found = self.oscillation
        delta = (other - self.w) * self.optimizer.preconditioner(self.state)
        _, turn = np.linalg.eigh(found.X)
        return turn[:, ::-1].T @ to_numpy(found.U @ delta)


def _risen(values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """By how much each eigenvalue (k,) rose since ``before`` (any number of them); falls count as zero."""
    rise = np.zeros(len(values))
    if before is not None:
        shared = min(len(values), len(before))
        rise[:shared] = np.maximum(values[:shared] - before[:shared], 0)
    return rise
