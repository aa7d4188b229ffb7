"""A flow with coefficients for each layer, fitted to recorded weights and then tuned on the training loss itself."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gfm.checks import MOST_SEED, instance, number, whole
from gfm.errors import InputError, NumericalError
from gfm.forecasting.base import Forecaster, register
from gfm.forecasting.report import FitReport
from gfm.matching.frame import Frame
from gfm.matching.optimizer_state import (
    last_averages,
    recorded_kind,
    refuse_other_kind,
    second_moment_units,
    second_moments,
    step_counts,
)
from gfm.trajectories import Trajectories
from gfm.trajectories.recent import STEP

__all__ = ["LayerwiseFlow", "Tuning", "windows"]

RIDGE = 1e-3
"""Ridge penalty of the fit, relative to the mean square of the standardised features."""
SOME = 300
"""The largest number of weights of a tensor, in each window, to which its coefficients are fitted."""


@dataclass(frozen=True)
class Tuning:
    """How a flow is tuned on the loss.

    Args:
        steps: of Adam in each round, at one window each.
        rate: Adam's learning rate, in units of a feature's root mean square; it falls to zero over a round.
        rounds: number of further rounds, each with new windows from runs that jump by the flow as it is at that time.
        seed: of the windows' order and the losses' batches.

    Raises:
        InputError: A number is out of range.
    """

    steps: int = 400
    rate: float = 3e-3
    rounds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("rounds", self.rounds, 0)
        whole("seed", self.seed, 0, MOST_SEED)
        number("rate", self.rate, lambda rate: 0 < rate < np.inf, "a positive number")


def windows(runs: Trajectories, states: int, stride: int = 1) -> Trajectories:
    """Cut recorded runs into windows of ``states`` neighbouring states; each becomes a run of its own.

    It keeps the optimizer's step count at each state, which the bias correction of the averages needs.

    Args:
        runs: recorded at even distances.
        states: of a window.
        stride: recorded states between the starts of windows.

    Raises:
        InputError: A number is out of range, the runs are shorter than a window, or recorded at uneven distances.
    """
    instance("runs", runs, Trajectories, "gfm.Trajectories")
    whole("states", states, 2)
    whole("stride", stride, 1)
    length = runs.weights.shape[1]
    if states > length:
        raise InputError(f"Windows of {states} states cannot be cut from runs of {length}.")
    steps = np.arange(states) * runs.stride
    counts = step_counts(runs)
    parts = []
    for start in range(0, length - states + 1, stride):
        part = slice(start, start + states)
        kept = {name: value[:, part] for name, value in runs.states.items()} or None
        buffers = {name: value[:, part] for name, value in runs.buffers.items()} | {STEP: counts[:, part]}
        parts.append(Trajectories(runs.weights[:, part], steps, runs.groups, runs.meta, kept, runs.layout, buffers))
    return Trajectories.concat(parts)


@dataclass(frozen=True)
class _Window:
    """One observed prefix: weights at its end, their unit, features and powers of the second moment."""

    last: Tensor  # (p,)
    unit: Tensor  # (p,)
    features: Tensor  # (p, features)
    powers: Tensor  # (p, powers)


@register
class LayerwiseFlow(Forecaster):
    """A constant velocity for every weight, linear in its features, with coefficients that its tensor shares.

    The features of a weight are the differences of the observed states from the last one, the last value and, if
    they were recorded, the optimizer's averages and the step that they imply, in units of the root mean square
    movement of the weight's layer. With second moments, each feature is also multiplied by the first two Hermite
    polynomials of their standardised logarithm. ``fit`` is a ridge regression of the displacement from the last
    observed to the last recorded state. The weights nearest to the recorded ones need not have the least loss, so
    :meth:`tune` can then change the coefficients by gradient descent on the training loss at the forecast weights.

    It treats all weights of a network together, and only the network of the fitted runs; ``groups`` name its tensors.
    """

    name = "layerwise-flow"
    title = "Layerwise flow (ours)"
    source = "this project"
    coordinatewise = False

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.sizes = [len(list(same)) for _, same in groupby(train.groups or [""] * train.parameters)]
        windows, ways = self._windows(train.prefix(self.n)), train.final - train.weights[:, self.n]
        rng = np.random.default_rng(0)
        count = windows[0].features.shape[1] * windows[0].powers.shape[1]
        found, start = torch.zeros(len(self.sizes), count), 0
        for tensor, size in enumerate(self.sizes):
            part = np.sort(rng.choice(size, min(size, SOME), replace=False)) + start
            x = torch.cat([_products(w.features[part], w.powers[part]) for w in windows]).double()
            y = torch.cat([torch.from_numpy(way[part]) / w.unit[part] for w, way in zip(windows, ways, strict=True)])
            scale = x.square().mean(0).sqrt()
            scale[scale == 0] = 1.0
            x = x / scale
            normal = x.T @ x / len(x) + RIDGE * torch.eye(count, dtype=x.dtype)
            found[tensor] = torch.linalg.solve(normal, x.T @ y.double() / len(x)) / scale
            start += size
        self.coefficients, self.kind = found, recorded_kind(train) if train.states else None
        report.parameters = found.numel()

    def tune(
        self, prefixes: Trajectories, loss: Callable[[Tensor, torch.Generator], Tensor], tuning: Tuning | None = None,
        play: Callable[[Self, int], Trajectories] | None = None,
    ) -> Self:
        """Minimise the training loss at the weights forecast from given windows; returns self.

        Jumps change the windows that the flow meets later. So the first round of tuning may be followed by others, each
        on all windows so far and on those of ``play``.

        Args:
            prefixes: windows of training runs, each with the n+1 observed states of the fit.
            loss: of the weights (p,), float32, on a batch of its own choice drawn from the generator; a scalar that can
                be differentiated.
            tuning: see :class:`Tuning`.
            play: (model, round) -> further windows, from runs that jump by the model; without it all rounds use the
                given windows.

        Raises:
            GfmError: The flow has not been fitted.
            InputError: The windows do not fit the fitted runs, or the loss cannot be differentiated.
            NumericalError: The loss is no longer finite; the coefficients are then as they were before.
        """
        tuning, notes = tuning or Tuning(), self.fitted.notes
        before = self.coefficients
        windows = self._checked(prefixes)
        generator = torch.Generator().manual_seed(tuning.seed)
        try:
            for turn in range(tuning.rounds + 1):
                if turn > 0 and play is not None:
                    windows += self._checked(play(self, turn))
                self._tune(windows, loss, tuning, generator)
        except BaseException:
            self.coefficients = before
            raise
        notes.update(tuned=f"{tuning.rounds + 1} rounds of {tuning.steps} steps", windows=len(windows))
        return self

    def _checked(self, prefixes: Trajectories) -> list[_Window]:
        if not isinstance(prefixes, Trajectories):
            raise InputError(f"The windows must be gfm.Trajectories, not {type(prefixes).__name__}; see "
                             "gfm.matching.windows.")
        self.forecast(prefixes[:1])  # raises an error if they do not fit
        return self._windows(prefixes)

    @torch.enable_grad()
    def _tune(
        self, windows: list[_Window], loss: Callable[[Tensor, torch.Generator], Tensor], tuning: Tuning,
        generator: torch.Generator,
    ) -> None:
        squares = [self._per_tensor(_products(w.features, w.powers).square()) for w in windows]
        scale = torch.stack(squares).mean(0).sqrt()
        scale[scale == 0] = 1.0
        free = (self.coefficients * scale).requires_grad_()
        optimizer = torch.optim.Adam([free], tuning.rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / tuning.steps)
        for _ in range(tuning.steps):
            window = windows[int(torch.randint(len(windows), (), generator=generator))]
            value = loss(window.last + self._way(window, free / scale), generator)
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise InputError("The loss must be a differentiable scalar function of the weights that it is given.")
            if not torch.isfinite(value):
                raise NumericalError("The loss at the flow's weights is no longer finite; lower the tuning's rate.")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            self.fitted.train.append(value.item())
        self.coefficients = (free / scale).detach()

    def _per_tensor(self, values: Tensor) -> Tensor:
        """(p, ...) -> (tensors, ...) means."""
        return torch.stack([part.mean(0) for part in values.split(self.sizes)])

    def _way(self, window: _Window, coefficients: Tensor) -> Tensor:
        """(p,) the displacement forecast for the last state ahead."""
        powers = window.powers.shape[1]
        parts = [
            (features @ row.view(-1, powers) * power).sum(1)
            for features, power, row in zip(
                window.features.split(self.sizes), window.powers.split(self.sizes), coefficients, strict=True
            )
        ]
        return torch.cat(parts) * window.unit

    def _windows(self, prefix: Trajectories) -> list[_Window]:
        """The windows of a prefix, one for each run."""
        found = []
        for run in range(prefix.runs):
            one = prefix[run : run + 1]
            scale = "run" if one.groups is None else "layer"
            frame = Frame.of(one.weights, scale, groups=one.groups)
            features = [frame.prefix[:, :-1]]
            if one.states:
                features.append(last_averages(one) / frame.scale[:, None])
            powers = np.ones((one.parameters, 1))
            if "second" in one.states:
                size = second_moments(one, second_moment_units(one))
                powers = np.stack([np.ones_like(size), size, np.square(size) - 1], axis=1)
            arrays = (frame.origin, frame.scale, np.hstack(features), powers)
            found.append(_Window(*(torch.from_numpy(array.astype(np.float32)) for array in arrays)))
        return found

    @torch.no_grad()
    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        if self.kind is not None and prefix.states:
            refuse_other_kind(self.kind, prefix, f"{self.name!r}")
        share = np.arange(1, horizon + 1)[:, None] / self.horizon
        out = np.empty((prefix.runs, horizon, prefix.parameters))
        for run in range(prefix.runs):
            window = self._windows(prefix[run : run + 1])[0]
            if window.features.shape[1] * window.powers.shape[1] != self.coefficients.shape[1]:
                raise InputError("The prefix and the fitted runs must have the same states of the optimizer.")
            way = self._way(window, self.coefficients).double().numpy()
            out[run] = prefix.weights[run, -1] + share * way
        return out


def _products(features: Tensor, powers: Tensor) -> Tensor:
    """(p, features * powers)."""
    return (features[:, :, None] * powers[:, None]).flatten(1)
