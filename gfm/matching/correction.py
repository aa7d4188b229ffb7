"""The correction in the coordinate view: its losses, its training, and its flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training, train_module
from gfm.matching.field import CorrectionField
from gfm.matching.integrate import EULER, Solver, integrate
from gfm.matching.loss import flow_matching_loss
from gfm.matching.options import Network
from gfm.matching.path import IncrementPath

__all__ = ["Residuals", "correction_states", "end_point_loss", "fit_correction", "knots", "roll_out", "velocity_loss"]

MARKS = 10
"""Equidistant times at which the end-point target and the validation look at the flow."""


@dataclass(frozen=True)
class Residuals:
    """What an affine flow leaves of recorded runs.

    y: (runs, parameters, horizon+1) recorded minus affine states, in the frame. context: (runs,
    parameters, features) standardised. weight: (runs, parameters) squared unit of the frame, relative
    to its mean. kappa: decay of y per step under the affine field.
    """

    y: Tensor
    context: Tensor
    weight: Tensor
    kappa: float

    @property
    def horizon(self) -> int:
        """How many steps ``y`` reaches ahead."""
        return self.y.shape[-1] - 1


def velocity_loss(
    field: CorrectionField,
    data: Residuals,
    runs: Tensor,
    path: IncrementPath,
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """The flow matching loss at ``samples`` drawn places of the given runs.

    A place is a weight of one of the runs and a start k, uniform in 0..horizon-span; the path goes from y_k,
    carried on by the affine field's decay, to y_{k+span}. Velocities are counted per horizon.
    """
    run = runs[torch.randint(len(runs), (samples,), generator=generator)]
    weight_number = torch.randint(data.y.shape[1], (samples,), generator=generator)
    span, horizon = path.span, data.horizon
    k = torch.randint(0, horizon - span + 1, (samples,), generator=generator)
    decay = (1 - data.kappa) ** span
    unit = (1 - decay) / (span * data.kappa) if data.kappa > 0 else 1.0
    x0, x1 = data.y[run, weight_number, k], data.y[run, weight_number, k + span]
    context = data.context[run, weight_number]
    return flow_matching_loss(
        lambda y, t: field(y, t / horizon, context),
        path,
        x0,
        x1 + (1 - decay) * x0,  # what the field must add: without it y would have shrunk to decay * x0
        k,
        lambda _, velocity: velocity / unit * horizon,
        generator,
        data.weight[run, weight_number],
    )


def end_point_loss(field: CorrectionField, data: Residuals, runs: Tensor) -> Tensor:
    """Mean squared error of the flow itself at ten times up to the end, through its integration.

    The other way to fit a flow: not its velocity at places of the data, but where it arrives.
    """
    context, weight = data.context[runs].flatten(0, 1), data.weight[runs].flatten()
    truth = data.y[runs].flatten(0, 1)[:, _marks(data.horizon)]
    states = roll_out(field, context, data.kappa, data.horizon, MARKS)
    return (weight[:, None] * (states - truth).square()).mean()


def _marks(horizon: int) -> np.ndarray:
    return np.linspace(0, horizon, MARKS + 1).round().astype(int)[1:]


def roll_out(
    field: CorrectionField,
    context: Tensor,
    kappa: float,
    horizon: int,
    steps: int,
    until: int | None = None,
    method: str = "euler",
) -> Tensor:
    """(series, steps) y at ``steps`` equidistant times up to ``until`` (the horizon), from y = 0.

    The flow is that of y_{k+1} = (1 - kappa) y_k + u / horizon, one k per optimizer step. A step of this
    solver goes over several k at once, exact where the field u does not change in between (and, in other
    methods than Euler's, to their order where it does); its own decay is not limited by stability.
    """
    stride = (until or horizon) / steps
    gone = 1 - (1 - kappa) ** stride
    reach = gone / kappa if kappa > 0 else stride

    def velocity(t: Tensor, y: Tensor) -> Tensor:
        share = (t * stride / horizon).expand(len(y))
        return reach * field(y, share, context) / horizon - gone * y

    start = torch.zeros(len(context), dtype=context.dtype)
    return integrate(velocity, start, steps, Solver(method)).T


def knots(horizon: int, until: int) -> int:
    """Times at which a correction fitted to ``horizon`` steps is evaluated on the way to ``until``."""
    return min(max(1, round(2 * MARKS * until / horizon)), until)


def correction_states(
    field: CorrectionField,
    context: Tensor,
    kappa: float,
    horizon: int,
    until: int,
    solver: Solver = EULER,
) -> Tensor:
    """(series, until) y at every step: rolled out at twice the validation's times, straight lines between.

    The correction changes slowly over the horizon: solved at every step it would cost as many evaluations
    of the network as there are steps, for the same states. The solver's substeps multiply the number of times.
    """
    steps = knots(horizon, until) * solver.substeps
    y = roll_out(field, context, kappa, horizon, steps, until, solver.method)
    y = torch.cat([torch.zeros_like(y[:, :1]), y], dim=1)
    place = torch.arange(1, until + 1, dtype=y.dtype) * steps / until
    low = place.floor().long().clamp(max=steps - 1)
    return torch.lerp(y[:, low], y[:, low + 1], place - low)


def fit_correction(
    field: CorrectionField,
    train: Residuals,
    held: Residuals,
    network: Network,
    path: IncrementPath,
    training: Training,
    report: FitReport,
) -> None:
    """Train the field by the network's target; stop and keep the state by held-out *forecasts*.

    The held-out velocity error is mostly the noise of single steps, which no field can predict; the
    held-out forecast error (at ten horizons) is what the model is for.
    """
    context, weight = held.context.flatten(0, 1), held.weight.flatten()
    some = torch.linspace(0, len(context) - 1, min(len(context), 1024)).round().long()
    context, weight = context[some], weight[some]
    truth = held.y.flatten(0, 1)[some][:, _marks(held.horizon)]

    def loss(runs: Tensor, generator: torch.Generator) -> Tensor:
        if network.target == "velocity":
            return velocity_loss(field, train, runs, path, network.samples, generator)
        arrival = end_point_loss(field, train, runs)
        if network.target == "end-point":
            return arrival
        return arrival + velocity_loss(field, train, runs, path, network.samples, generator)

    def validate() -> float:
        forecast = roll_out(field, context, held.kappa, held.horizon, 2 * MARKS)[:, 1::2]
        return (weight[:, None] * (forecast - truth).square()).mean().item()

    train_module(field, loss, len(train.y), validate, training, report)
