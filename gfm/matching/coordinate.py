"""The field shared by all weights, conditioned on each weight's own prefix."""

from __future__ import annotations

import copy
from itertools import product
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gfm.forecasting.report import FitReport
from gfm.matching.affine import AffineFlow
from gfm.matching.correction import Residuals, correction_states, fit_correction
from gfm.matching.damping import Damping, choose_damping, decline
from gfm.matching.field import CorrectionField, numbers_in
from gfm.matching.flow import Flow
from gfm.matching.frame import Frame, units_of
from gfm.matching.integrate import Solver, integrate
from gfm.matching.optimizer_state import gradients, second_moment_units, second_moments, state_features, times_powers
from gfm.matching.options import FlowOptions
from gfm.matching.selection import choose
from gfm.matching.shrinkage import Shrinkage, lengths, squares_of
from gfm.trajectories import Trajectories

__all__ = ["CoordinateFlow"]


class CoordinateFlow(Flow):
    """An affine flow in the prefix's frame, with or without a network's correction.

    The affine part is fitted for every unit of the coordinates, ridge and use of the optimizer's state that the
    options leave open, and the held-out runs decide between them. It is computed in float64; the network, whose
    correction is small and not exact, in float32, which takes half the time.
    """

    view = "coordinate"
    network: CorrectionField | None

    def __init__(self, observed: int, options: FlowOptions) -> None:
        super().__init__(observed, options)
        self.damping: Damping | None = None
        self.shrinkage: Shrinkage | None = None

    @classmethod
    def suits(cls, train: Trajectories) -> bool:
        """Always true: it handles any number of weights."""
        return True

    @property
    def size(self) -> int:
        """How many numbers were fitted, the network's included."""
        return self.affine.size + numbers_in(self.network)

    @property
    def notes(self) -> dict[str, object]:
        """The unit of the coordinates, the ridge, and whether the optimizer's state is used."""
        return {"scale": self.scale, "ridge": self.ridge, "optimizer_state": self.optimizer_state}

    # -- fitting ---------------------------------------------------------------------------------
    def fit(self, train: Trajectories, held: Trajectories) -> np.ndarray:
        """Fit the affine part, choose its options by the held-out runs, and return their (runs,) errors.

        The one-standard-error rule is applied twice: to the ridges for each unit and use of the optimizer's state,
        then to the winners. Ridges of different units cannot be compared by simplicity.
        """
        asked = self.options.conditioning
        scales = ("none", "run") if asked.scale == "auto" else (asked.scale,)
        if asked.optimizer_state == "auto":
            states: tuple[bool, ...] = (False, True) if train.states else (False,)
        else:
            states = (bool(asked.optimizer_state),)
        ridges = np.sort(asked.ridges)[::-1]  # simplest first: no drive, then ever weaker ridges
        truth = held.weights[:, self.n + 1 :].astype(np.float64)
        finalists = []
        for state, scale in product(states, scales):
            frame, context = self._frame(train.prefix(self.n), scale, state)
            held_frame, held_context = self._frame(held.prefix(self.n), scale, state)
            later = frame.inward(train.weights[:, self.n + 1 :])
            flows = AffineFlow.restoring(frame.ends, later).driven(frame.ends, context, later, ridges)
            errors = []
            for flow in flows:
                forecast = held_frame.outward(flow.states(held_frame.ends, held_context)[:, 1:])
                errors.append(np.square(forecast - truth).mean(axis=(1, 2)))
            best = choose(errors)
            finalists.append((errors[best], float(ridges[best]), scale, state, flows[best], context))
        chosen = finalists[choose([finalist[0] for finalist in finalists])]
        error, self.ridge, self.scale, self.optimizer_state, self.affine, context = chosen
        self.center = context.mean(axis=0)
        self.spread = np.maximum(context.std(axis=0), 1e-12)
        return error

    def _frame(
        self,
        prefix: Trajectories,
        scale: str,
        optimizer_state: bool,
        units: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
    ) -> tuple[Frame, np.ndarray]:
        """The frame of a prefix and the context in it; units and sizes are of whole runs, if the prefix is a part."""
        frame = Frame.of(prefix.weights, scale, units, prefix.groups)
        context = frame.context(self.options.conditioning.context)
        if optimizer_state:
            context = np.hstack([context, state_features(prefix) / frame.scale[:, None]])
        if optimizer_state and self.options.conditioning.products:
            sizes = second_moment_units(prefix) if sizes is None else sizes
            context = times_powers(context, second_moments(prefix, sizes))
        return frame, context

    def correct(self, train: Trajectories, held: Trajectories, report: FitReport) -> None:
        """Add a network, trained by flow matching on the residuals of the affine part."""
        asked, training = self.options.network, self.options.training
        assert asked is not None
        field = CorrectionField(len(self.center), asked.hidden, asked.state, asked.time, training.seed)
        residuals = self._residuals(train)
        # the unit in which the network works: typical size of the affine part's residuals
        self.unit = float(residuals.y.square().mean().sqrt()) or 1.0
        seen, unseen = (
            Residuals(part.y / self.unit, part.context, part.weight, part.kappa)
            for part in (residuals, self._residuals(held))
        )
        fit_correction(field, seen, unseen, asked, self.options.path, training, report)
        self.network = field

    def _residuals(self, data: Trajectories) -> Residuals:
        frame, context = self._frame(data.prefix(self.n), self.scale, self.optimizer_state)
        y = frame.inward(data.weights[:, self.n :]) - self.affine.states(frame.ends, context)
        shape = (data.runs, data.parameters, -1)
        weight = np.square(frame.scale) / np.square(frame.scale).mean()
        return Residuals(
            torch.from_numpy(y.reshape(shape)).float(),
            self._standardised(context).reshape(shape),
            torch.from_numpy(weight.reshape(shape[:2])).float(),
            self.affine.kappa,
        )

    def _standardised(self, context: np.ndarray) -> Tensor:
        # clamped, because 1/s is very large if a run has hardly moved
        scaled = np.clip((context - self.center) / self.spread, -5.0, 5.0)
        return torch.from_numpy(scaled).float()

    # -- damping ---------------------------------------------------------------------------------
    def damp(self, train: Trajectories, held: Trajectories) -> dict[str, object]:
        """Choose the damping of fast runs by the held-out forecasts and, if cautious, fit the shrinkage."""

        def errors(damping: Damping | None) -> np.ndarray:
            self.damping = damping
            return self.errors(held)

        name, self.damping = choose_damping(self._rates(train.prefix(self.n)), errors)
        if self.options.damping == "cautious":
            fitted = (train, held)
            squares = np.concatenate([squares_of(data.weights[:, : self.n + 1]) for data in fitted])
            ways = [lengths(data.weights[:, self.n + 1 :], data.weights[:, self.n]) for data in fitted]
            self.shrinkage = Shrinkage.of(squares, np.concatenate(ways))
        return {"damping": name}

    def with_damping(self, damping: str) -> Self:
        """The same fitted flow under a damping no stronger than the one it was fitted with."""
        other = copy.copy(self)
        if damping != "cautious":
            other.shrinkage = None
        if damping == "none":
            other.damping = None
        return other

    def _rates(self, prefix: Trajectories, columns: int | None = None) -> np.ndarray:
        """(runs,) rate at which the gradients decline (or the increments, if the optimizer's state is not used)."""
        squares = np.zeros(())
        known = self.optimizer_state and not (np.diff(prefix.steps) > 1).any()
        columns = columns or prefix.parameters
        for start in range(0, prefix.parameters, columns):
            piece = _part(prefix, slice(None), slice(start, start + columns))
            steps = gradients(piece) if known else np.diff(piece.weights.astype(np.float64), axis=1)
            squares = squares + np.square(steps).sum(axis=2)
        return decline(squares)

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, along the field, in the prefix's dtype.

        Weights are independent of each other, so they are integrated in chunks of at least one weight (some
        kilobytes) that fit the solver's memory.
        """
        runs, _, p = prefix.weights.shape
        chunk = max(int(solver.memory // self.bytes_per_weight(horizon)), 1)
        rows, columns = max(chunk // p, 1), min(chunk, p)
        units = units_of(prefix.weights, self.scale, columns, prefix.groups)
        powers = self.optimizer_state and self.options.conditioning.products
        sizes = second_moment_units(prefix, columns) if powers else np.empty((2, runs))
        gains = np.ones((runs, horizon))
        if self.damping is not None:
            gains = self.damping.gains(self._rates(prefix, columns), horizon)
        out = np.empty((runs, horizon, p), dtype=prefix.weights.dtype)
        for first, start in product(range(0, runs, rows), range(0, p, columns)):
            some, part = slice(first, first + rows), slice(start, start + columns)
            piece = _part(prefix, some, part)
            unit = units[some, part] if units.shape[1] > 1 else units[some]
            frame, context = self._frame(piece, self.scale, self.optimizer_state, unit, sizes[:, some])
            states = self._carry(frame.ends, context, horizon, solver)
            gain = np.repeat(gains[some], piece.parameters, axis=0)
            out[some, :, part] = frame.outward(gain * states)
        if self.shrinkage is not None:
            last = prefix.weights[:, -1]
            gains = self.shrinkage.gains(squares_of(prefix.weights), lengths(out, last)).astype(out.dtype)
            for step in range(horizon):
                out[:, step] = last + gains[:, step, None] * (out[:, step] - last)
        return out

    def bytes_per_weight(self, horizon: int) -> int:
        """Upper bound on the bytes that one weight needs during integration, from the arrays involved."""
        observed, features = self.n + 1, len(self.center)
        numbers = 12 * observed + 6 * features + 12 * max(self.affine.horizon, horizon)
        if self.network is not None:  # inputs, and a layer's values before and after its activation
            numbers += 4 * (features + 6) + 3 * sum(self.network.hidden)
        return 8 * numbers

    def _carry(self, ends: np.ndarray, context: np.ndarray, horizon: int, solver: Solver) -> np.ndarray:
        dtype = self.options.solver.torch_dtype
        aim = torch.from_numpy(ends @ self.affine.aim).to(dtype)
        drives = torch.from_numpy(self.affine.drives(context)).to(dtype)
        last = self.affine.horizon - 1

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            step = min(int(t + 1e-6), last)  # the drive is constant within a step
            return drives[:, step] - self.affine.kappa * (x - aim)

        states = integrate(velocity, torch.zeros_like(aim), horizon, solver).T
        if self.network is not None:
            inputs = self._standardised(context)
            y = correction_states(self.network, inputs, self.affine.kappa, self.affine.horizon, horizon, solver)
            states = states + self.unit * y.to(states)
        return states.to(torch.float64).numpy()


def _part(data: Trajectories, runs: slice, weights: slice) -> Trajectories:
    """Some weights of some runs, with their optimizer states."""
    states = {name: value[runs, :, weights] for name, value in data.states.items()}
    return Trajectories(data.weights[runs, :, weights], data.steps, None, data.meta, states)
