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
    """The residuals of an affine flow on recorded runs.

    Attributes:
        y: (runs, parameters, horizon+1) recorded minus affine states, in the frame.
        context: (runs, parameters, features), standardised.
        weight: (runs, parameters) squared unit of the frame, relative to its mean.
        kappa: decay of y per step under the affine field.
    """

    y: Tensor
    context: Tensor
    weight: Tensor
    kappa: float

    @property
    def horizon(self) -> int:
        """Number of steps that ``y`` covers."""
        return self.y.shape[-1] - 1


def velocity_loss(
    field: CorrectionField, data: Residuals, runs: Tensor, path: IncrementPath, samples: int, generator: torch.Generator
) -> Tensor:
    """The flow matching loss at ``samples`` random places of the given runs.

    A place is a weight of one of the runs and a start k, uniform in 0..horizon-span. The path starts from y_k and
    ends at y_{k+span}, corrected for the affine field's decay. Velocities are per horizon.
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
        x1 + (1 - decay) * x0,  # corrected for the decay: without the field y would shrink to decay * x0
        k,
        lambda _, velocity: velocity / unit * horizon,
        generator,
        data.weight[run, weight_number],
    )


def end_point_loss(field: CorrectionField, data: Residuals, runs: Tensor) -> Tensor:
    """Mean squared error of the integrated flow at ten equidistant times up to the horizon.

    This is the other way to fit a flow: by the states that it reaches, not by its velocities.
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
    """(series, steps) y at ``steps`` equidistant times up to ``until`` (by default the horizon), from y = 0.

    The flow follows y_{k+1} = (1 - kappa) y_k + u / horizon, with one k per optimizer step. Each step of this
    solver covers several k. It is exact if the field u is constant in between (otherwise of the method's order),
    and the decay does not limit its stability.
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
    """Number of times at which a correction fitted to ``horizon`` steps is evaluated up to ``until``."""
    return min(max(1, round(2 * MARKS * until / horizon)), until)


def correction_states(
    field: CorrectionField, context: Tensor, kappa: float, horizon: int, until: int, solver: Solver = EULER
) -> Tensor:
    """(series, until) y at every step: solved at twice as many times as in validation, and interpolated linearly.

    The correction changes slowly over the horizon, so solving at every step would cost many more evaluations of
    the network for the same states. The solver's substeps multiply the number of times.
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
    """Train the field on the network's target; stop early and keep the best state by held-out *forecasts*.

    The held-out velocity error is mostly the noise of single steps, which no field can predict. The held-out
    forecast error (at ten horizons) measures what the model is for.
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
