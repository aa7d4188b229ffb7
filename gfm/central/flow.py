"""The central flow as a process: Euler substeps of the optimizer's time-averaged path."""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfm.central import predictions
from gfm.central.base import Flow, Observation, to_numpy
from gfm.central.control import Control
from gfm.central.settings import Settings
from gfm.central.substep import Local, Oscillation, Rates, local_flow
from gfm.linalg import deflation
from gfm.optimizers import Optimizer, State
from gfm.optimizers.base import diagonal
from gfm.problem import Problem
from gfm.problem.derivatives import Derivatives

__all__ = ["Central"]

#: Relative residual of eigenvectors used for a single substep, unless the settings give a tolerance.
_COARSE = 3e-4
#: A larger relative rise of the learning rate within a step at the edge is noted.
_STEEP = 0.05


class _Start(NamedTuple):
    """The start of the last step, in case it is repeated; ``rows`` are the tracker's, None if they are large."""

    w: Tensor
    state: State
    rows: Tensor | None


class Central(Flow):
    """The central flow, with eigenvectors computed once per step.

    Within a step the eigenvectors keep turning as in the last steps; if they are large, they are held fixed.
    Eigenvalues within a step are Rayleigh quotients.

    Large tensors are released as early as possible: with millions of weights memory is the limit.
    """

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        band = settings.band
        if band is None:
            moving = optimizer.memory(self.state) is not None
            band = settings.usual_band(str(w.dtype).removeprefix("torch."), moving)
        self.band = band
        self.control = Control(settings.substeps, optimizer.threshold, band if settings.adaptive else math.inf)
        self.oscillation: Oscillation | None = None
        self._candidates = self._no_rows = w.new_empty((0, len(w)))  # directions that may become critical in this step
        self._local: Local | None = None
        self._rates: Rates | None = None
        self._before: np.ndarray | None = None  # eigenvalues one step earlier
        self._began: _Start | None = None

    def state_dict(self) -> dict[str, Any]:
        """See ``Process``."""
        began = self._began
        return super().state_dict() | {
            "control": self.control.state_dict(),
            "before": None if self._before is None else torch.from_numpy(self._before),
            "began": None if began is None else {"w": began.w, "state": vars(began.state), "rows": began.rows},
        }

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """See ``Process``."""
        super().load_state_dict(kept)
        self.control.load_state_dict(kept["control"])
        before, began = kept["before"], kept["began"]
        self._before = None if before is None else to_numpy(before)
        self._began = None if began is None else _Start(**{**began, "state": type(self.state)(**began["state"])})

    def observe(self, t: int) -> Observation:
        """See ``Process``; first repeats the last step if the control requires it."""
        self.oscillation, self._candidates = None, self._no_rows  # free memory before new eigenvectors are sought
        self._t = t
        point, spectrum = self.look(t)
        while self._began is not None and self.control.take_again(float(spectrum.values[0])):
            self.w, self.state, rows = self._began
            if rows is not None:
                self.tracker.restart(rows, t - 1)
            del point, spectrum  # free their memory for the substeps
            self._advance_afresh(t - 1)
            point, spectrum = self.look(t)
        values, c = to_numpy(spectrum.values), self.optimizer.threshold
        self._note_excess(float(values[0]) / c)
        rise = _risen(values, self._before)
        self._before = values
        self.control.require(self.substeps_for(0.9 * self.top_rate(spectrum)))
        # Only directions that may become critical need derivatives.
        dt = self.control.dt
        chosen = (values > min(0.95, self.settings.critical_share) * c) | (values + 2 * rise > c)
        self._tracked = np.flatnonzero(chosen).tolist()
        self._candidates, self._rise = spectrum.U[self._tracked], rise[chosen] * dt
        seen = self.observation(point, spectrum)
        del spectrum
        self._local = self._derivatives(point, self._rise)
        self._rates = self._local.rates(dt)
        self.oscillation = found = self._rates.oscillation
        if found is not None and self.optimizer.log_lr_slope(self.state.t) > _STEEP:
            warnings.warn(
                f"the learning rate rises by more than {_STEEP:.0%} within a step at the edge of stability; the flow "
                "follows at once, the optimizer after some steps", stacklevel=2,
            )
        E = diagonal(self.optimizer.edge(self.state))
        seen.update(predictions.averages(seen, found, c, E, self.coordinates))
        if self._rates.nu_push is not None:
            seen["nu_push"] = float(self._rates.nu_push.mean())
        seen["substeps"] = 1.0 / dt
        seen["retaken"] = float(self.control.retaken)
        return seen

    def _note_excess(self, top: float) -> None:
        """Say once where the flow starts beyond the edge, and where it leaves its band after it was at or below it.

        ``top`` is the largest eigenvalue over the threshold.
        """
        edge = 1 + self.band
        if top <= edge:
            return
        if self._before is None:
            warnings.warn(
                f"the flow starts beyond the edge of stability, at {top:.3g} times the threshold; its first "
                "steps only take it back (a longer warm-up avoids this)", stacklevel=2,
            )
        elif self._before[0] <= self.optimizer.threshold * edge:
            warnings.warn(
                f"the flow is beyond the edge of stability by more than its band of {self.band:.2%}; at such steps it "
                "does not count as at the edge", stacklevel=2,
            )

    def advance(self) -> None:
        """Euler substeps over one unit of time."""
        self._began = None
        if self.settings.adaptive:
            rows = self.tracker.rows
            self._began = _Start(self.w, self.state, rows if rows.numel() <= deflation.LARGE else None)
        if self.settings.refresh_substeps:
            self._advance_afresh(self._t)
        else:
            self._advance_along()
        self._local = self._rates = None
        self.control.finish(grow=not self.settings.refresh_substeps)

    def _advance_along(self) -> None:
        """One step without new eigenvectors.

        A rejected substep returns to its start, whose derivatives are reused for the shorter one. Large derivatives
        are not kept: the flow then returns to the step's start, where they are computed again.
        """
        local, rates, done = self._local, self._rates, 0.0
        assert local is not None and rates is not None  # from ``observe``
        self._local = self._rates = None
        adaptive, frugal = self.settings.adaptive, self._candidates.numel() > deflation.LARGE
        rise = before = self._rise
        back = None
        while True:
            dt = min(self.control.dt, 1.0 - done)
            quotients = local.quotients
            if adaptive and not (frugal and back):
                back = self.w, self.state, done, before
            self.move(rates.w, rates.state, dt)
            if done + dt > 1.0 - 1e-9:
                break
            del rates
            if frugal or not adaptive:
                local = None
            self._turn(done + dt)
            following = self._derivatives(self._here(), rise)
            if self.control.accept(following.quotients.max(initial=0.0), done + dt):
                rise, before = following.quotients - quotients, rise
                done, local = done + dt, following
                del following
            else:
                del following
                assert back is not None  # nothing is rejected if substeps are fixed
                self.w, self.state, done, before = back
                local = local or self._derivatives(self._here(), before)
            rates = local.rates(min(self.control.dt, 1.0 - done))

    def _turn(self, done: float) -> None:
        """Replace the candidates by those expected at the share ``done`` of the step, if their rate is known."""
        rows = self.tracker.ahead(self._t + done) if self._tracked else None
        if rows is not None and self._tracked[-1] < len(rows):
            self._candidates = rows[self._tracked] / diagonal(self.optimizer.edge(self.state)) ** 0.5

    def _advance_afresh(self, t: int) -> None:
        """The step from ``t`` with eigenvectors computed in every substep."""
        before, c, dt = None, self.optimizer.threshold, self.control.dt
        for substep in range(self.control.count):
            point, spectrum = self.look(t + substep * dt, _COARSE if self.settings.tolerance is None else 0.0)
            values = to_numpy(spectrum.values)
            rise = _risen(values, before)
            chosen = (values > self.settings.critical_share * c) | (values + rise > c)
            self._candidates = spectrum.U[chosen.tolist()]
            del spectrum
            rates = self._derivatives(point, rise[chosen]).rates(dt)
            del point
            self._candidates = self._no_rows
            self.move(rates.w, rates.state, dt)
            del rates
            before = values

    def _here(self) -> Derivatives:
        return self.problem.at(self.w, max(1, len(self._candidates)))

    def _derivatives(self, point: Derivatives, rise: np.ndarray) -> Local:
        settings = self.settings
        return local_flow(
            point, self.optimizer, self.state, self._candidates, rise=rise,
            critical_share=settings.critical_share, curvature_penalty=settings.curvature_penalty,
        )


def _risen(values: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """The rise of each eigenvalue (k,) since ``before`` (which may have another length); falls count as zero."""
    rise = np.zeros(len(values))
    if before is not None:
        shared = min(len(values), len(before))
        rise[:shared] = np.maximum(values[:shared] - before[:shared], 0)
    return rise
