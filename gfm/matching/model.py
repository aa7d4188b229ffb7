"""Gradient flow matching as a forecaster: fit a field to recorded runs, carry new ones along it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.forecasters.base import Forecaster, register
from gfm.forecasters.report import FitReport
from gfm.forecasters.training import Training
from gfm.matching.affine import AffineFlow
from gfm.matching.choice import choose, clearly_better
from gfm.matching.field import CorrectionField
from gfm.matching.fit import Residuals, fit_correction
from gfm.matching.frame import CONTEXTS, SCALES, Frame
from gfm.matching.integrate import integrate
from gfm.matching.path import IncrementPath
from gfm.trajectories import Trajectories

__all__ = ["GradientFlowMatching", "RIDGES"]

RIDGES = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)


@register
class GradientFlowMatching(Forecaster):
    """A field v(w, t | prefix), shared by all weights, whose flow continues the prefix.

    The field is an affine part (:class:`AffineFlow`: descent towards the optimum that the prefix
    points to, and a ridge drive), matched in closed form in float64, plus a neural correction
    (:class:`CorrectionField`) trained by conditional flow matching. Every choice called ``"auto"``, the
    ridge, and whether the correction is kept are made by forecasts of the validation runs (see
    :mod:`gfm.matching.choice`); without them the last fifth of the training runs serves.

    observed: n, the number of the last observed step (default: a tenth of the steps).
    context: what the drive and the correction see of the prefix: ``"ends"`` or ``"prefix"``.
    scale: unit of a run's coordinates, ``"none"``, ``"run"`` or ``"auto"`` (see :class:`Frame`).
    ridges: strengths to choose from; 0 is plain least squares, infinity no drive.
    correction: ``"auto"`` (trained, kept if it validates better), True (kept anyway) or False.
    state: whether the correction sees the state of the flow. hidden: its layers.
    path: the conditional path. times: drawn times a series and step.
    method, substeps: the solver's; the default is one Euler step per optimizer step.
    dtype: of the neural part and the solver, ``"float64"`` or ``"float32"``.
    training: rate, batch (runs), epochs, patience, seed.
    """

    name = "gfm"
    title = "GFM (ours)"
    source = "reconstruction of Shou et al. 2025, arXiv 2505.20221"

    def __init__(
        self,
        observed: int | None = None,
        *,
        context: str = "prefix",
        scale: str = "auto",
        ridges: Sequence[float] = RIDGES,
        correction: bool | str = "auto",
        state: bool = False,
        hidden: Sequence[int] = (64, 64),
        path: IncrementPath | None = None,
        times: int = 16,
        method: str = "euler",
        substeps: int = 1,
        dtype: str = "float64",
        training: Training | None = None,
    ) -> None:
        super().__init__(observed)
        if context not in CONTEXTS or scale not in (*SCALES, "auto"):
            raise InputError(f"context must be one of {CONTEXTS}, scale one of {SCALES} or 'auto'.")
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.")
        if correction not in (True, False, "auto"):
            raise InputError(f"correction must be True, False or 'auto'; got {correction!r}.")
        if not ridges or min(ridges) < 0 or times < 1:
            raise InputError("ridges must be non-negative, at least one, and times at least 1.")
        self.context, self.scale, self.ridges = context, scale, np.asarray(ridges, dtype=float)
        self.correction, self.state, self.hidden = correction, state, tuple(hidden)
        self.path, self.times = path or IncrementPath(span=10), times
        self.method, self.substeps = method, substeps
        self.dtype = getattr(torch, dtype)
        self.training = training or Training(rate=3e-3, batch=32, epochs=400, patience=40)

    # -- fitting ---------------------------------------------------------------------------------
    def _fit(
        self, train: Trajectories, validation: Trajectories | None, report: FitReport
    ) -> None:
        if validation is None:
            held = max(train.runs // 5, 1) if train.runs > 1 else 0
            train, validation = (train[: train.runs - held], train[-held:]) if held else (train,) * 2
        self.field: CorrectionField | None = None
        errors = self._fit_affine(train, validation)
        report.notes.update(
            affine_error=float(errors.mean()), scale=self.chosen_scale, ridge=self.chosen_ridge
        )
        report.parameters = self.flow.size
        if self.correction:
            self._fit_field(train, validation, report)
            corrected = self._held_errors(validation)
            if self.correction == "auto" and not clearly_better(corrected, errors):
                self.field = None
                report.parameters = self.flow.size
            report.notes.update(
                corrected_error=float(corrected.mean()), corrected=self.field is not None
            )

    def _fit_affine(self, train: Trajectories, validation: Trajectories) -> np.ndarray:
        """Choose scale and ridge, simplest first; (runs,) validation errors of what was chosen."""
        truth = validation.weights[:, self.n + 1 :].astype(np.float64)
        candidates = []
        for scale in SCALES if self.scale == "auto" else (self.scale,):
            frame = Frame.of(train.weights[:, : self.n + 1], scale)
            held = Frame.of(validation.weights[:, : self.n + 1], scale)
            later = frame.inward(train.weights[:, self.n + 1 :])
            context = frame.context(self.context)
            flows = AffineFlow.restoring(frame.ends, later).driven(
                frame.ends, context, later, self.ridges
            )
            for ridge, flow in zip(self.ridges, flows, strict=True):
                states = flow.states(held.ends, held.context(self.context))
                errors = np.square(held.outward(states[:, 1:]) - truth).mean(axis=(1, 2))
                candidates.append((ridge, scale, flow, errors, context))
        candidates.sort(key=lambda candidate: -candidate[0])  # stable: "none" before "run"
        chosen = candidates[choose([candidate[3] for candidate in candidates])]
        self.chosen_ridge, self.chosen_scale, self.flow = float(chosen[0]), chosen[1], chosen[2]
        self.center = chosen[4].mean(axis=0)
        self.spread = np.maximum(chosen[4].std(axis=0), 1e-12)
        return chosen[3]

    def _fit_field(
        self, train: Trajectories, validation: Trajectories, report: FitReport
    ) -> None:
        features = len(self.center)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.training.seed)
            field = CorrectionField(features, self.hidden, self.state).to(self.dtype)
        residuals, held = self._residuals(train), self._residuals(validation)
        # the unit in which the network works: typical size of what the affine part leaves
        self.unit = float(residuals.y.square().mean().sqrt().clamp_min(1e-300))
        scaled = [
            Residuals(part.y / self.unit, part.context, part.weight, part.kappa)
            for part in (residuals, held)
        ]
        fit_correction(field, *scaled, self.path, self.times, self.training, report)
        self.field = field

    def _residuals(self, data: Trajectories) -> Residuals:
        frame = Frame.of(data.weights[:, : self.n + 1], self.chosen_scale)
        context = frame.context(self.context)
        later = frame.inward(data.weights[:, self.n :])
        y = later - self.flow.states(frame.ends, context)
        shape = (data.runs, data.parameters, -1)
        weight = np.square(frame.scale) / np.square(frame.scale).mean()
        return Residuals(
            torch.from_numpy(y.reshape(shape)).to(self.dtype),
            self._standardised(context).reshape(shape),
            torch.from_numpy(weight.reshape(shape[:2])).to(self.dtype),
            self.flow.kappa,
        )

    def _standardised(self, context: np.ndarray) -> Tensor:
        # clamped: 1/s has a long tail where a run hardly moved
        scaled = np.clip((context - self.center) / self.spread, -5.0, 5.0)
        return torch.from_numpy(scaled).to(self.dtype)

    def _held_errors(self, data: Trajectories) -> np.ndarray:
        forecast = self._forecast(data.prefix(self.n), self.horizon)
        return np.square(forecast - data.weights[:, self.n + 1 :]).mean(axis=(1, 2))

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        frame = Frame.of(prefix.weights, self.chosen_scale)
        parts = [
            self._carry(frame, slice(start, start + 65_536), horizon)
            for start in range(0, len(frame.origin), 65_536)
        ]
        return frame.outward(np.vstack(parts))

    def _carry(self, frame: Frame, part: slice, horizon: int) -> np.ndarray:
        """(series, horizon) states of some series in the frame, along the field."""
        ends, context = frame.ends[part], frame.context(self.context)[part]
        aim = torch.from_numpy(ends @ self.flow.aim).to(self.dtype)
        drives = torch.from_numpy(self.flow.drives(context)).to(self.dtype)
        affine = torch.from_numpy(self.flow.states(ends, context)).to(self.dtype)
        inputs = self._standardised(context)

        def velocity(t: Tensor, x: Tensor) -> Tensor:
            step = min(int(t + 1e-6), self.horizon - 1)  # the drive is constant within a step
            v = drives[:, step] - self.flow.kappa * (x - aim)
            if self.field is not None:
                y = (x - affine[:, step]) / self.unit
                share = (t / self.horizon).expand(len(x))
                v = v + self.unit / self.horizon * self.field(y, share, inputs)
            return v

        states = integrate(velocity, torch.zeros_like(aim), horizon, self.method, self.substeps)
        return states.T.to(torch.float64).numpy()
