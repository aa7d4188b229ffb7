"""The field shared by all weights, conditioned on each weight's own prefix."""

import numpy as np
import torch
from torch import Tensor

from gfm.forecasting.report import FitReport
from gfm.matching.affine import AffineField
from gfm.matching.flow import Flow, pieces
from gfm.matching.frame import Frame, units_of
from gfm.matching.integrate import Solver, integrate
from gfm.matching.optimizer_state import (
    knows_optimizer,
    second_moment_units,
    second_moments,
    state_features,
    times_powers,
)
from gfm.matching.selection import choose
from gfm.trajectories import Trajectories

__all__ = ["CoordinateFlow"]


class CoordinateFlow(Flow):
    """An affine flow in the prefix's frame.

    It is fitted for every choice that the options leave open (unit of the coordinates, context, ridge, and whether the
    optimizer's state is used), and the held-out runs decide between them.
    """

    view = "coordinate"

    @classmethod
    def suits(cls, train: Trajectories) -> bool:
        """Always true: it handles any number of weights."""
        return True

    @property
    def size(self) -> int:
        """How many numbers were fitted."""
        return self.affine.size

    @property
    def notes(self) -> dict[str, object]:
        """What the held-out forecasts chose."""
        names = ("scale", "context", "ridge", "optimizer_state")
        return {name: getattr(self, name) for name in names}

    # -- fitting ---------------------------------------------------------------------------------
    def fit(self, train: Trajectories, held: Trajectories, report: FitReport) -> np.ndarray:
        """Fit the affine field, choose its options by the held-out runs, and return their (runs,) errors.

        The one-standard-error rule is applied twice: to the ridges for each unit, context and use of the optimizer's
        state, then to the winners. Ridges of different units cannot be compared by simplicity.
        """
        ridges = np.sort(self.options.ridges)[::-1]  # simplest first: no drive, then ever weaker ridges
        truth = held.weights[:, self.n + 1 :].astype(np.float64)
        finalists = []
        for choice in self.options.conditioning.choices(knows_optimizer(train.prefix(self.n))):
            self.optimizer_state, self.scale, self.context = choice
            frame, context = self._frame(train.prefix(self.n))
            held_frame, held_context = self._frame(held.prefix(self.n))
            later = frame.inward(train.weights[:, self.n + 1 :])
            fields = AffineField.restoring(frame.ends, later).driven(frame.ends, context, later, ridges)
            errors = []
            for field in fields:
                forecast = held_frame.outward(field.states(held_frame.ends, held_context)[:, 1:])
                errors.append(np.square(forecast - truth).mean(axis=(1, 2)))
            best = choose(errors)
            finalists.append((errors[best], float(ridges[best]), choice, fields[best]))
        error, self.ridge, choice, self.affine = finalists[choose([finalist[0] for finalist in finalists])]
        self.optimizer_state, self.scale, self.context = choice
        return error

    def _frame(
        self, prefix: Trajectories, units: np.ndarray | None = None, sizes: np.ndarray | None = None
    ) -> tuple[Frame, np.ndarray]:
        """The frame of a prefix and the context in it.

        If the prefix has some of the weights only, ``units`` and ``sizes`` are those of the whole runs.
        """
        frame = Frame.of(prefix.weights, self.scale, units, prefix.groups)
        context = frame.context(self.context)
        if self.optimizer_state:
            context = np.hstack([context, state_features(prefix) / frame.scale[:, None]])
        if self.optimizer_state and self.options.products:
            sizes = second_moment_units(prefix) if sizes is None else sizes
            context = times_powers(context, second_moments(prefix, sizes))
        return frame, context

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, along the field, in the prefix's dtype.

        Weights are independent of each other, so they are integrated in chunks that fit the solver's memory, of at
        least one weight (some kilobytes).
        """
        runs, _, p = prefix.weights.shape
        each = self.bytes_per_weight(horizon)
        columns = min(max(int(solver.memory // each), 1), p)
        units = units_of(prefix.weights, self.scale, columns, prefix.groups)
        powers = self.optimizer_state and self.options.products
        sizes = second_moment_units(prefix, columns) if powers else np.empty((2, runs))
        out = np.empty((runs, horizon, p), dtype=prefix.weights.dtype)
        for some, part, piece in pieces(prefix, each, solver.memory):
            unit = units[some, part] if units.shape[1] > 1 else units[some]
            frame, context = self._frame(piece, unit, sizes[:, some])
            states = self._carry(frame.ends, context, horizon, solver)
            out[some, :, part] = frame.outward(states)
        return out

    def bytes_per_weight(self, horizon: int) -> int:
        """Upper bound on the bytes that one weight needs during integration, from the arrays involved."""
        observed = self.n + 1
        features = 0 if self.affine.drive is None else len(self.affine.drive)
        return 8 * (12 * observed + 6 * max(features, observed) + 12 * max(self.affine.horizon, horizon))

    def _carry(self, ends: np.ndarray, context: np.ndarray, horizon: int, solver: Solver) -> np.ndarray:
        dtype = self.options.solver.torch_dtype
        aim = torch.from_numpy(ends @ self.affine.aim).to(dtype)
        drives = torch.from_numpy(self.affine.drives(context)).to(dtype)
        last = self.affine.horizon - 1

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            step = min(int(t + 1e-6), last)  # the drive is constant within a step
            return drives[:, step] - self.affine.kappa * (x - aim)

        states = integrate(velocity, torch.zeros_like(aim), horizon, solver).T
        return states.to(torch.float64).numpy()
