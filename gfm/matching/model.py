"""Gradient flow matching as a forecaster: fit a field to recorded runs, carry new ones along it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching.choice import clearly_better
from gfm.matching.coordinate import MEMORY, CoordinateFlow
from gfm.matching.damping import DAMPINGS
from gfm.matching.fit import TARGETS
from gfm.matching.frame import CONTEXTS, SCALES
from gfm.matching.path import IncrementPath
from gfm.matching.vector import MOST, VectorFlow
from gfm.trajectories import Trajectories

__all__ = ["RIDGES", "GradientFlowMatching"]

RIDGES = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)
VIEWS = ("auto", "coordinate", "vector")


@register
class GradientFlowMatching(Forecaster):
    """A vector field fitted to recorded weights, whose flow continues a prefix.

    Two views. Coordinate: a field v(x, t | prefix) shared by all weights: an affine part, descent
    towards the optimum that the prefix points to (:class:`AffineFlow`, closed form, float64), and a
    network's correction (:class:`CorrectionField`, conditional flow matching). Vector: a memoryless
    field v(w) of all weights together (:class:`VectorFlow`), right where all runs share one task.

    Every choice called ``"auto"``, and the ridge, are made by forecasts of the validation runs, in
    doubt for the simpler (:mod:`gfm.matching.choice`); without a validation set the last fifth of the
    training runs serves.

    Args:
        observed: n, the number of the last observed step (default: a tenth of the steps).
        view: ``"coordinate"``, ``"vector"`` or ``"auto"`` (the vector view is tried up to 64 weights).
        context: what the drive and the correction see of the prefix: ``"ends"`` or ``"prefix"``.
        aware: whether the optimizer's recorded state enters the context (:mod:`gfm.matching.aware`); ``"auto"`` tries
            it where the training runs hold one.
        products: whether an aware context is also taken times the powers of each weight's second moment, so that steep
            and flat directions have fields of their own (off by default: thrice the coefficients).
        scale: unit of a run's coordinates, ``"none"``, ``"run"``, ``"layer"`` (one a layer, by the groups) or
            ``"auto"``, the better of the first two (see :class:`Frame`).
        ridges: strengths of the drive to choose from; 0 is plain least squares, infinity no drive.
        correction: ``"auto"`` (trained, kept if it validates better by two standard errors), True (kept anyway) or
            False.
        state, time: whether the coordinate correction sees the state of the flow, and the time.
        hidden: layers.
        target: what the coordinate correction is matched to: ``"velocity"`` (conditional flow matching),
            ``"end-point"`` (where the flow arrives, through its integration) or ``"both"``.
        path: the conditional path.
        samples: places on paths a training step.
        damping: ``"auto"`` lets the coordinate view damp runs that slow faster than the fitted ones
            (:mod:`gfm.matching.damping`), for networks unlike those; ``"cautious"`` also holds forecasts to what a
            run's own speed lets one expect (:mod:`gfm.matching.trust`); ``"none"`` does neither.
        method, substeps: the solver's; the default is one Euler step per optimizer step.
        memory: bytes that a forecast of the coordinate view works in, beside the prefix and the result; weights beyond
            what fits are carried in chunks. (The vector view has at most 64 weights.)
        dtype: of the affine part, the solver and the vector view's network, ``"float64"`` or ``"float32"``.
        training: rate, batch (runs), epochs, patience, seed.
    """

    name = "gfm"
    title = "GFM (ours)"
    source = "reconstruction of Shou et al. 2025, arXiv 2505.20221"

    def __init__(
        self,
        observed: int | None = None,
        *,
        view: str = "auto",
        context: str = "prefix",
        scale: str = "auto",
        aware: bool | str = "auto",
        products: bool = False,
        ridges: Sequence[float] = RIDGES,
        correction: bool | str = "auto",
        state: bool = False,
        time: bool = True,
        hidden: Sequence[int] = (64, 64),
        target: str = "velocity",
        path: IncrementPath | None = None,
        samples: int = 2048,
        damping: str = "none",
        method: str = "euler",
        substeps: int = 1,
        memory: int = MEMORY,
        dtype: str = "float64",
        training: Training | None = None,
    ) -> None:
        super().__init__(observed)
        if view not in VIEWS:
            raise InputError(f"view must be one of {VIEWS}; got {view!r}.")
        if context not in CONTEXTS or scale not in (*SCALES, "auto"):
            raise InputError(f"context must be one of {CONTEXTS}, scale one of {SCALES} or 'auto'.")
        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype must be 'float32' or 'float64'; got {dtype!r}.")
        if correction not in (True, False, "auto"):
            raise InputError(f"correction must be True, False or 'auto'; got {correction!r}.")
        if memory < 2**20:
            raise InputError(f"memory is in bytes and must be at least 2**20; got {memory}.")
        if aware not in (True, False, "auto"):
            raise InputError(f"aware must be True, False or 'auto'; got {aware!r}.")
        if len(ridges) == 0 or min(ridges) < 0 or samples < 1:
            raise InputError("ridges must be non-negative, at least one, and samples at least 1.")
        if damping not in DAMPINGS:
            raise InputError(f"damping must be one of {DAMPINGS}; got {damping!r}.")
        if target not in TARGETS:
            raise InputError(f"target must be one of {TARGETS}; got {target!r}.")
        self.target, self.damping = target, damping
        self.view, self.context, self.scale, self.aware = view, context, scale, aware
        self.ridges, self.products = np.asarray(ridges, dtype=float), products
        self.correction, self.state, self.time, self.hidden = correction, state, time, tuple(hidden)
        self.path, self.samples = path or IncrementPath(span=10), samples
        self.method, self.substeps, self.memory = method, substeps, memory
        self.dtype = getattr(torch, dtype)
        self.training = training or Training(
            rate=1e-2, batch=16, epochs=120, patience=40, schedule="one-cycle"
        )

    def _fit(
        self, train: Trajectories, validation: Trajectories | None, report: FitReport
    ) -> None:
        if validation is None:
            held = max(train.runs // 5, 1) if train.runs > 1 else 0
            train, validation = (train[: train.runs - held], train[-held:]) if held else (train,) * 2
        self.path = self._fitting_path()
        best: np.ndarray | None = None
        if self.view != "vector":
            self.flow: CoordinateFlow | VectorFlow = CoordinateFlow(
                self.n, self.context, self.dtype, self.products
            )
            scales = ("none", "run") if self.scale == "auto" else (self.scale,)
            awares: tuple[bool, ...] = (bool(self.aware),)
            if self.aware == "auto":
                awares = (False, True) if train.states else (False,)
            best = self.flow.fit(train, validation, scales, self.ridges, awares)
            report.notes.update(
                view="coordinate",
                scale=self.flow.scale,
                ridge=self.flow.ridge,
                aware=self.flow.aware,
            )
        if self.view == "vector" or (self.view == "auto" and train.parameters <= MOST):
            vector = VectorFlow.fit(train.weights, self.dtype)
            errors = self._errors(vector, validation)
            if best is None or clearly_better(errors, best):
                self.flow, best = vector, errors
                report.notes.clear()
                report.notes.update(view="vector")
        assert best is not None
        report.notes["affine_error"] = float(best.mean())
        if self.correction:
            self._correct(train, validation, best, report)
        if self.damping != "none" and isinstance(self.flow, CoordinateFlow):
            report.notes["damping"] = self.flow.damp(train, validation)
            if self.damping == "cautious":
                self.flow.confine(train, validation)
        report.parameters = self.flow.size
        # seen by the checks of forecast(): a vector field knows its number of weights
        self.coordinatewise = isinstance(self.flow, CoordinateFlow)

    def _fitting_path(self) -> IncrementPath:
        """The path with its span cut to the horizon, for short trajectories."""
        span = min(self.path.span, max(self.horizon // 2, 1))
        return IncrementPath(self.path.within, self.path.noise, span)

    def _correct(
        self, train: Trajectories, held: Trajectories, best: np.ndarray, report: FitReport
    ) -> None:
        what, how = (self.hidden, self.path, self.samples), (self.training, report)
        if isinstance(self.flow, CoordinateFlow):
            self.flow.correct(train, held, self.state, self.time, *what, self.target, *how)
        else:
            self.flow.correct(train.weights, held.weights, self.n, *what, *how)
        errors = self._errors(self.flow, held)
        report.notes["corrected_error"] = float(errors.mean())
        if self.correction == "auto" and not clearly_better(errors, best, 2.0):
            # thousands of numbers, and stopped on these very runs: two standard errors, not one
            self.flow.field = None
        report.notes["corrected"] = self.flow.field is not None

    def _errors(self, flow: CoordinateFlow | VectorFlow, held: Trajectories) -> np.ndarray:
        """(runs,) mean squared error of the flow's forecasts of held-out runs."""
        forecast = self._carry(flow, held.prefix(self.n), self.horizon)
        return np.square(forecast - held.weights[:, self.n + 1 :]).mean(axis=(1, 2))

    def _carry(
        self, flow: CoordinateFlow | VectorFlow, prefix: Trajectories, horizon: int
    ) -> np.ndarray:
        if isinstance(flow, CoordinateFlow):
            return flow.forecast(prefix, horizon, self.method, self.substeps, self.memory)
        return flow.forecast(prefix.final, horizon, self.method, self.substeps)

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return self._carry(self.flow, prefix, horizon)
