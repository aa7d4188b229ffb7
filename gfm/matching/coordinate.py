"""The field shared by all weights, conditioned on each weight's own prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching.affine import AffineFlow
from gfm.matching.aware import gradients, preconditioner, preconditioner_units, state_features, times_powers
from gfm.matching.choice import choose
from gfm.matching.damping import Damping, choose_damping, decline
from gfm.matching.field import CorrectionField
from gfm.matching.fit import Residuals, correction_states, fit_correction
from gfm.matching.frame import Frame, units_of
from gfm.matching.integrate import integrate
from gfm.matching.path import IncrementPath
from gfm.matching.trust import Trust, lengths, squares_of
from gfm.trajectories import Trajectories

__all__ = ["MEMORY", "CoordinateFlow"]

MEMORY = 256 * 2**20
"""Bytes that a forecast works in by default, beside what goes in and what comes out."""


class CoordinateFlow:
    """An affine flow in the prefix's frame, with or without a network's correction.

    n: last observed step. context: what the drive and the correction see of the prefix: ``"ends"`` or
    ``"prefix"``, and with ``aware`` the optimizer's state as well. dtype: of the affine part and the
    solver; the network, which adds a small part and no exact one, is float32 at half the time.
    """

    aware = False

    def __init__(self, n: int, context: str, dtype: torch.dtype, products: bool = False) -> None:
        self.n, self.context, self.dtype, self.products = n, context, dtype, products
        self.field: CorrectionField | None = None
        self.damping: Damping | None = None
        self.trust: Trust | None = None

    @property
    def size(self) -> int:
        """Numbers fitted."""
        network = 0 if self.field is None else sum(p.numel() for p in self.field.parameters())
        return self.flow.size + network

    # -- fitting ---------------------------------------------------------------------------------
    def fit(
        self,
        train: Trajectories,
        held: Trajectories,
        scales: Sequence[str],
        ridges: np.ndarray,
        awares: Sequence[bool] = (False,),
    ) -> np.ndarray:
        """Fit the affine part for every scale, ridge and awareness; choose by the held-out runs.

        The one-standard-error rule decides twice: among the ridges of one scale and awareness, then
        among their winners. Across scales ridges mean different things: none is the simpler there.

        Returns (runs,) held-out errors of the chosen.
        """
        truth = held.weights[:, self.n + 1 :].astype(np.float64)
        order = np.argsort(-ridges)  # simplest first: no drive, then weaker and weaker ridges
        finalists = []
        for aware in awares:
            for scale in scales:
                frame, context = self._frame(train.prefix(self.n), scale, aware)
                other, held_context = self._frame(held.prefix(self.n), scale, aware)
                later = frame.inward(train.weights[:, self.n + 1 :])
                flows = AffineFlow.restoring(frame.ends, later).driven(
                    frame.ends, context, later, ridges[order]
                )
                errors = []
                for flow in flows:
                    states = flow.states(other.ends, held_context)
                    wrong = np.square(other.outward(states[:, 1:]) - truth)
                    errors.append(wrong.mean(axis=(1, 2)))
                best = choose(errors)
                ridge = float(ridges[order[best]])
                finalists.append((errors[best], ridge, scale, aware, flows[best], context))
        chosen = finalists[choose([finalist[0] for finalist in finalists])]
        errors, self.ridge, self.scale, self.aware, self.flow, context = chosen
        self.center = context.mean(axis=0)
        self.spread = np.maximum(context.std(axis=0), 1e-12)
        return errors

    def _frame(
        self,
        prefix: Trajectories,
        scale: str,
        aware: bool,
        units: np.ndarray | None = None,
        sizes: np.ndarray | None = None,
    ) -> tuple[Frame, np.ndarray]:
        """The frame of a prefix, and the context in it; units and sizes of whole runs, for a part."""
        frame = Frame.of(prefix.weights, scale, units, prefix.groups)
        context = frame.context(self.context)
        if aware:
            context = np.hstack([context, state_features(prefix) / frame.scale[:, None]])
        if aware and self.products:
            sizes = preconditioner_units(prefix) if sizes is None else sizes
            context = times_powers(context, preconditioner(prefix, sizes))
        return frame, context

    def correct(
        self,
        train: Trajectories,
        held: Trajectories,
        state: bool,
        time: bool,
        hidden: Sequence[int],
        path: IncrementPath,
        samples: int,
        target: str,
        training: Training,
        report: FitReport,
    ) -> None:
        """Add a network, trained by flow matching on what the affine part leaves."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            field = CorrectionField(len(self.center), hidden, state, time)
        residuals = self._residuals(train)
        # the unit in which the network works: typical size of what the affine part leaves
        self.unit = float(residuals.y.square().mean().sqrt()) or 1.0
        seen, unseen = (
            Residuals(part.y / self.unit, part.context, part.weight, part.kappa)
            for part in (residuals, self._residuals(held))
        )
        fit_correction(field, seen, unseen, path, samples, target, training, report)
        self.field = field

    def _residuals(self, data: Trajectories) -> Residuals:
        frame, context = self._frame(data.prefix(self.n), self.scale, self.aware)
        y = frame.inward(data.weights[:, self.n :]) - self.flow.states(frame.ends, context)
        shape = (data.runs, data.parameters, -1)
        weight = np.square(frame.scale) / np.square(frame.scale).mean()
        return Residuals(
            torch.from_numpy(y.reshape(shape)).float(),
            self._standardised(context).reshape(shape),
            torch.from_numpy(weight.reshape(shape[:2])).float(),
            self.flow.kappa,
        )

    def _standardised(self, context: np.ndarray) -> Tensor:
        # clamped: 1/s has a long tail where a run hardly moved
        scaled = np.clip((context - self.center) / self.spread, -5.0, 5.0)
        return torch.from_numpy(scaled).float()

    def damp(self, train: Trajectories, held: Trajectories) -> str:
        """Choose the damping of fast runs by the held-out forecasts; returns its name."""
        truth = held.weights[:, self.n + 1 :]

        def errors(damping: Damping | None) -> np.ndarray:
            self.damping = damping
            forecast = self.forecast(held.prefix(self.n), truth.shape[1])
            return np.square(forecast - truth).mean(axis=(1, 2))

        name, self.damping = choose_damping(self._rates(train.prefix(self.n)), errors)
        return name

    def confine(self, *fitted: Trajectories) -> None:
        """From now on hold forecasts to what the fitted runs' speeds let expect."""
        squares = np.concatenate([squares_of(data.weights[:, : self.n + 1]) for data in fitted])
        ways = [lengths(data.weights[:, self.n + 1 :], data.weights[:, self.n]) for data in fitted]
        self.trust = Trust.of(squares, np.concatenate(ways))

    def _rates(self, prefix: Trajectories, columns: int | None = None) -> np.ndarray:
        """(runs,) rate at which the gradients decline (the increments, where the flow is blind)."""
        squares = np.zeros(())
        known = self.aware and not (np.diff(prefix.steps) > 1).any()
        for start in range(0, prefix.parameters, columns or prefix.parameters):
            piece = _part(prefix, slice(None), slice(start, start + (columns or prefix.parameters)))
            steps = gradients(piece) if known else np.diff(piece.weights.astype(np.float64), axis=1)
            squares = squares + np.square(steps).sum(axis=2)
        return decline(squares)

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def forecast(
        self,
        prefix: Trajectories,
        horizon: int,
        method: str = "euler",
        substeps: int = 1,
        memory: int = MEMORY,
    ) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, along the field, in the prefix's dtype.

        memory: bytes to work in. Every weight goes its own way, so the weights are carried in chunks
        that fit; one weight needs some kilobytes, and less than one chunk of one weight cannot be had.
        """
        runs, _, p = prefix.weights.shape
        chunk = max(int(memory // self._bytes(horizon)), 1)
        rows, columns = max(chunk // p, 1), min(chunk, p)
        units = units_of(prefix.weights, self.scale, columns, prefix.groups)
        powers = self.aware and self.products
        sizes = preconditioner_units(prefix, columns) if powers else np.empty((2, runs))
        gains = np.ones((runs, horizon))
        if self.damping is not None:
            gains = self.damping.gains(self._rates(prefix, columns), horizon)
        out = np.empty((runs, horizon, p), dtype=prefix.weights.dtype)
        for first in range(0, runs, rows):
            for start in range(0, p, columns):
                some, part = slice(first, first + rows), slice(start, start + columns)
                piece = _part(prefix, some, part)
                unit = units[some, part] if units.shape[1] > 1 else units[some]
                frame, context = self._frame(piece, self.scale, self.aware, unit, sizes[:, some])
                states = self._carry(frame.ends, context, horizon, method, substeps)
                gain = np.repeat(gains[some], piece.parameters, axis=0)
                out[some, :, part] = frame.outward(gain * states)
        if self.trust is not None:
            last = prefix.weights[:, -1]
            gains = self.trust.gains(squares_of(prefix.weights), lengths(out, last)).astype(out.dtype)
            for step in range(horizon):
                out[:, step] = last + gains[:, step, None] * (out[:, step] - last)
        return out

    def _bytes(self, horizon: int) -> int:
        """Bytes that one weight needs at most while it is carried, from the arrays that are made."""
        observed, features = self.n + 1, len(self.center)
        numbers = 12 * observed + 6 * features + 12 * max(self.flow.horizon, horizon)
        if self.field is not None:  # inputs, and a layer's values before and after its activation
            widths = [layer.out_features for layer in self.field.body if isinstance(layer, nn.Linear)]
            numbers += 4 * (features + 6) + 3 * sum(widths)
        return 8 * numbers

    def _carry(
        self, ends: np.ndarray, context: np.ndarray, horizon: int, method: str, substeps: int
    ) -> np.ndarray:
        aim = torch.from_numpy(ends @ self.flow.aim).to(self.dtype)
        drives = torch.from_numpy(self.flow.drives(context)).to(self.dtype)
        last = self.flow.horizon - 1

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            step = min(int(t + 1e-6), last)  # the drive is constant within a step
            return drives[:, step] - self.flow.kappa * (x - aim)

        states = integrate(velocity, torch.zeros_like(aim), horizon, method, substeps).T
        if self.field is not None:
            inputs = self._standardised(context)
            y = correction_states(
                self.field, inputs, self.flow.kappa, self.flow.horizon, horizon, method, substeps
            )
            states = states + self.unit * y.to(states)
        return states.to(torch.float64).numpy()


def _part(data: Trajectories, runs: slice, weights: slice) -> Trajectories:
    """Some weights of some runs, with their states."""
    states = {name: value[runs, :, weights] for name, value in data.states.items()}
    return Trajectories(data.weights[runs, :, weights], data.steps, None, data.meta, states)
