"""Gradient flow matching as a forecaster: fit a field to recorded runs, and continue new runs along it."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from gfm.checks import one_of
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.matching.coordinate import CoordinateFlow
from gfm.matching.damping import DAMPINGS
from gfm.matching.flow import Flow
from gfm.matching.integrate import Solver
from gfm.matching.options import Conditioning, FlowOptions, Network
from gfm.matching.path import IncrementPath
from gfm.matching.selection import clearly_better
from gfm.matching.vector import VectorFlow
from gfm.trajectories import Trajectories

__all__ = ["FLOWS", "GradientFlowMatching", "PrefixFlow", "VectorOnly"]

FLOWS: dict[str, type[Flow]] = {flow.view: flow for flow in (CoordinateFlow, VectorFlow)}
"""The views by name. ``view="auto"`` tries those that suit the runs, in this order; a later one must be clearly
better than those before it."""

USUAL = FlowOptions()


@register
class GradientFlowMatching(Forecaster):
    """A vector field fitted to recorded weights, whose flow continues a prefix.

    There are two views. The coordinate view is a field v(x, t | prefix) shared by all weights: an affine part,
    which descends towards the optimum to which the prefix points (:class:`AffineFlow`, closed form, float64), and a
    network's correction (:class:`CorrectionField`, conditional flow matching). The vector view is a memoryless
    field v(w) of all weights together (:class:`VectorFlow`), which is appropriate if all runs share one task.

    Forecasts of the validation runs decide every option set to ``"auto"``, and the ridge; if the difference is
    within the noise the simpler model is chosen (:mod:`gfm.matching.selection`). Without a validation set the last
    fifth of the training runs is held out.

    Args:
        observed: n, the number of the last observed step (default: a tenth of the steps).
        view: ``"coordinate"``, ``"vector"`` or ``"auto"`` (the vector view is tried for up to 64 weights).
        conditioning: how the coordinate view's field depends on the prefix.
        network: the network that corrects the affine part, used if it improves the validation forecasts; or None.
        path: the conditional path; its span is limited to half the horizon.
        solver: how the flow is integrated; by default one Euler step per optimizer step.
        damping: ``"none"``, ``"auto"`` or ``"cautious"``, see :class:`FlowOptions`.
        training: how the network is trained; a batch consists of runs.

    Raises:
        InputError: The view or the damping is unknown.

    Example:
        >>> GradientFlowMatching(20, view="coordinate", network=Network(time=False)).network.hidden
        (64, 64)
    """

    name = "gfm"
    title = "GFM (ours)"
    source = "reconstruction of Shou et al. 2025, arXiv 2505.20221"
    usual_view: ClassVar[str] = "auto"

    def __init__(
        self,
        observed: int | None = None,
        *,
        view: str | None = None,
        conditioning: Conditioning = USUAL.conditioning,
        network: Network | None = USUAL.network,
        path: IncrementPath = USUAL.path,
        solver: Solver = USUAL.solver,
        damping: str = USUAL.damping,
        training: Training = USUAL.training,
    ) -> None:
        super().__init__(observed)
        self.view = self.usual_view if view is None else view
        one_of("view", self.view, (*FLOWS, "auto"))
        self.conditioning, self.network, self.path = conditioning, network, path
        self.solver, self.damping, self.training = solver, damping, training
        self._options(path)

    def _options(self, path: IncrementPath) -> FlowOptions:
        return FlowOptions(self.conditioning, self.network, path, self.solver, self.damping, self.training)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        if validation is None:
            held = max(train.runs // 5, 1) if train.runs > 1 else 0
            train, validation = (train[: train.runs - held], train[-held:]) if held else (train,) * 2
        options = self._options(replace(self.path, span=min(self.path.span, max(self.horizon // 2, 1))))
        kinds = [FLOWS[self.view]] if self.view != "auto" else [f for f in FLOWS.values() if f.suits(train)]
        best: np.ndarray | None = None
        for kind in kinds:
            flow = kind(self.n, options)
            errors = flow.fit(train, validation)
            if best is None or clearly_better(errors, best):
                self.flow, best = flow, errors
        assert best is not None
        report.notes.update(view=self.flow.view, **self.flow.notes, affine_error=float(best.mean()))
        if self.network is not None:
            self.flow.correct(train, validation, report)
            errors = self.flow.errors(validation)
            if not self.network.always and not clearly_better(errors, best, 2.0):
                # thousands of parameters, and stopped early on these same runs: two standard errors, not one
                self.flow.network = None
            report.notes.update(corrected_error=float(errors.mean()), corrected=self.flow.network is not None)
        if self.damping != "none":
            report.notes.update(self.flow.damp(train, validation))
        report.parameters = self.flow.size
        # used by the checks of forecast(): a vector field has a fixed number of weights
        self.coordinatewise = self.flow.coordinatewise

    def with_damping(self, damping: str) -> Self:
        """The same fitted model under a damping no stronger than the one it was fitted with.

        Damping does not change the fitted flow to which it is applied, so one fit serves all dampings.

        Raises:
            GfmError: The model has not been fitted.
            InputError: The damping is unknown, or stronger than the fitted one.
        """
        _ = self.fitted
        one_of("damping", damping, DAMPINGS[: DAMPINGS.index(self.damping) + 1])  # what was fitted
        other = copy.copy(self)
        other.flow, other.damping = self.flow.with_damping(damping), damping
        return other

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return self.flow.forecast(prefix, horizon, self.solver)


@register
class PrefixFlow(GradientFlowMatching):
    """The coordinate view only: v(x, t | prefix), shared by all weights."""

    name = "gfm-prefix"
    title = "GFM, coordinate view"
    usual_view = "coordinate"


@register
class VectorOnly(GradientFlowMatching):
    """The vector view only: v(w) of all weights together, without memory."""

    name = "gfm-vector"
    title = "GFM, vector view"
    coordinatewise = False
    usual_view = "vector"
