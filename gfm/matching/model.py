"""Gradient flow matching as a forecaster: fit a field to recorded runs, and continue new runs along it."""

import copy
from dataclasses import replace
from itertools import product
from typing import ClassVar, Self

import numpy as np

from gfm.checks import one_of
from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import NOT_HELD_OUT, FitReport
from gfm.forecasting.training import Training
from gfm.matching.coordinate import CoordinateFlow
from gfm.matching.damping import DAMPINGS
from gfm.matching.flow import Flow
from gfm.matching.integrate import Solver
from gfm.matching.matched import MatchedFlow
from gfm.matching.optimizer_state import recorded_kind, refuse_other_kind
from gfm.matching.options import Conditioning, FlowOptions, Network
from gfm.matching.path import IncrementPath
from gfm.matching.restraint import Restraint
from gfm.matching.selection import clearly_better
from gfm.matching.vector import VectorFlow
from gfm.trajectories import Trajectories

__all__ = ["AffineFlow", "FlowForecaster", "GradientFlowMatching"]

USUAL = FlowOptions()
OPEN, NETWORK = Conditioning(context="auto"), Network()
PATHS = (IncrementPath(), IncrementPath(span=20))


class FlowForecaster(Forecaster):
    """A field fitted to recorded weights, whose flow continues a prefix, in one of two views.

    The coordinate view is a field v(x, t | prefix) shared by all weights. The vector view is a memoryless field v(w) of
    all weights together (:class:`VectorFlow`), which is appropriate if all runs share one task. A subclass lists its
    ``flows``; ``view="auto"`` tries those that suit the runs, in this order, and a later one must be clearly better
    than those before it (:mod:`gfm.matching.selection`).
    """

    flows: ClassVar[tuple[type[Flow], ...]] = ()

    paths: tuple[IncrementPath, ...] = (USUAL.path,)

    def __init__(self, observed: int | None, view: str, options: FlowOptions) -> None:
        super().__init__(observed)
        one_of("view", view, (*[flow.view for flow in self.flows], "auto"))
        self.view, self.options = view, options

    @property
    def training(self) -> Training:
        """How the network is trained."""
        return self.options.training

    @training.setter
    def training(self, value: Training) -> None:
        self.options = replace(self.options, training=value)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        if validation is None:
            held = max(train.runs // 5, 1) if train.runs > 1 else 0
            train, validation = (train[: train.runs - held], train[-held:]) if held else (train,) * 2
            report.notes["held_out"] = held or NOT_HELD_OUT
        longest = max(self.horizon // 2, 1)
        paths = dict.fromkeys(replace(path, span=min(path.span, longest)) for path in self.paths)
        partial = train.parameters < self.parameters  # a flow fitted to some of the weights must forecast all
        kinds = [flow for flow in self.flows if flow.view == self.view
                 or (self.view == "auto" and flow.suits(train) and (flow.coordinatewise or not partial))]
        best: np.ndarray | None = None
        tried = []
        for kind, path in product(kinds, paths):
            flow, one = kind(self.n, replace(self.options, path=path)), FitReport(device=report.device)
            errors = flow.fit(train, validation, one)
            tried.append(f"{flow.view}{f', span {path.span}' if len(paths) > 1 else ''}: {errors.mean():.4g}")
            if best is None or clearly_better(errors, best):
                self.flow, best, curve = flow, errors, one
        assert best is not None
        report.train, report.validation = curve.train, curve.validation
        report.epochs, report.best_epoch = curve.epochs, curve.best_epoch
        report.notes.update(view=self.flow.view, **self.flow.notes, error=float(best.mean()), tried="; ".join(tried))
        self.restraint = Restraint()
        if self.options.damping != "none":
            cautious = self.options.damping == "cautious"
            self.restraint = Restraint.fit(train, validation, self.flow, self.options.solver, cautious)
            report.notes["damping"] = self.restraint.name
        report.parameters, self.kind = self.flow.size, recorded_kind(train)
        # used by the checks of forecast(): a vector field has a fixed number of weights
        self.coordinatewise = self.flow.coordinatewise

    def takes_some(self) -> bool:
        """Whether the options ask for no view that treats all weights together."""
        return all(flow.coordinatewise for flow in self.flows if flow.view == self.view)

    def with_damping(self, damping: str) -> Self:
        """The same fitted model under a damping no stronger than the one it was fitted with.

        Damping does not change the fitted flow, so one fit serves all dampings.

        Raises:
            GfmError: The model has not been fitted.
            InputError: The damping is unknown, or stronger than the fitted one.
        """
        _ = self.fitted
        one_of("damping", damping, DAMPINGS[: DAMPINGS.index(self.options.damping) + 1])  # as fitted
        other = copy.copy(self)
        other.restraint, other.options = self.restraint.no_more_than(damping), replace(self.options, damping=damping)
        return other

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        if self.flow.optimizer_state:
            refuse_other_kind(self.kind, prefix, "The flow")
        return self.restraint.apply(prefix, self.flow.forecast(prefix, horizon, self.options.solver))


@register
class AffineFlow(FlowForecaster):
    """The flow of an affine field, fitted in closed form (float64): ours, not the paper's.

    In the coordinate view the field descends towards the optimum to which the prefix points, and has a drive that is
    linear in the prefix (:class:`AffineField`); it is fitted to the recorded states. In the vector view it is matched
    to the recorded steps (:class:`AffineVectorField`).

    Validation forecasts decide every option set to ``"auto"``, and the ridge; if the difference is within the noise
    the simpler one is chosen. Without a validation set the last fifth of the training runs is held out (a single run
    serves for both, and the report's notes say so).

    Args:
        observed: n, the number of the last observed step (default: a tenth of the steps).
        view: ``"coordinate"``, ``"vector"`` or ``"auto"`` (the vector view is tried for up to 64 weights).
        conditioning: how the coordinate view's field depends on the prefix.
        solver: how the flow is integrated; by default one Euler step per recorded state.
        ridges, products, damping: see :class:`FlowOptions`.

    Raises:
        InputError: An option is unknown or out of range.

    Example:
        >>> AffineFlow(20, view="coordinate", damping="cautious").options.damping
        'cautious'
    """

    name = "affine-flow"
    title = "Affine flow (ours)"
    source = "ours"
    flows = (CoordinateFlow, VectorFlow)

    def __init__(
        self, observed: int | None = None, *, view: str = "auto", conditioning: Conditioning = USUAL.conditioning,
        solver: Solver = USUAL.solver, ridges: tuple[float, ...] = USUAL.ridges, products: bool = USUAL.products,
        damping: str = USUAL.damping,
    ) -> None:
        options = FlowOptions(conditioning, solver, ridges=ridges, products=products, damping=damping)
        super().__init__(observed, view, options)


@register
class GradientFlowMatching(FlowForecaster):
    """Gradient flow matching: a network's field, fitted by conditional flow matching, in the optimizer's flow.

    In the coordinate view the network supplies the gradient g(x, t | c) of a weight, given its place x, the time t
    and the context c of its prefix. The optimizer's own rule turns it into a flow whose state includes the optimizer's
    averages (:mod:`gfm.matching.rules`). The velocities of weights and averages are matched to the recorded steps. In
    the vector view one network sees all weights, without memory.

    Args:
        observed: n, the number of the last observed step (default: a tenth of the steps).
        view: ``"coordinate"``, ``"vector"`` or ``"auto"`` (the vector view is tried for up to 64 weights).
        conditioning: the context, the unit of the coordinates, and whether the flow knows the optimizer.
        network: the network, and how the field depends on the state.
        path: the conditional path, or several, of which a later one is used if it forecasts the held-out runs clearly
            better: a long path averages over the noise of mini-batches, a short one gives the exact velocity. Spans
            are limited to half the horizon.
        solver: how the flow is integrated; by default one Euler step per recorded state.
        training: how the network is trained; an item is one weight of one run.
        damping: see :class:`FlowOptions`.

    Raises:
        InputError: An option is unknown or out of range.

    Example:
        >>> GradientFlowMatching(20, network=Network(state="restoring")).options.network.hidden
        (64, 64)
    """

    name = "gfm"
    title = "GFM (reconstruction)"
    source = "reconstruction of Shou et al. 2025, arXiv 2505.20221"
    flows = (MatchedFlow, VectorFlow)

    def __init__(
        self, observed: int | None = None, *, view: str = "auto", conditioning: Conditioning = OPEN,
        network: Network = NETWORK, path: IncrementPath | tuple[IncrementPath, ...] = PATHS,
        solver: Solver = USUAL.solver, training: Training = USUAL.training, damping: str = USUAL.damping,
    ) -> None:
        if not isinstance(network, Network):
            raise InputError(f"network must be a Network(...), but it is {network!r}.")
        paths = path if isinstance(path, tuple) else (path,)
        if not paths or not all(isinstance(one, IncrementPath) for one in paths):
            raise InputError(f"path must be an IncrementPath(...) or a tuple of them, but it is {path!r}.")
        self.paths = paths
        super().__init__(observed, view, FlowOptions(conditioning, solver, network, training=training, damping=damping))
