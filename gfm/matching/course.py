"""Recorded weights and averages as series in the units in which the matched flow works."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.forecasting.series import to_series
from gfm.matching.frame import Frame, units_of
from gfm.matching.optimizer_state import (
    TINIEST,
    averages_of,
    learning_rate,
    least_units,
    state_channels,
    step_counts,
)
from gfm.matching.rules import DescentRule, UpdateRule, rule_of
from gfm.trajectories import Trajectories

__all__ = ["Course", "Units", "factors_of"]


@dataclass(frozen=True)
class Course:
    """Recorded weights and averages, one series for each weight, in the units of the flow.

    Attributes:
        frame: the coordinates x of the weights.
        context: (series, features), not standardised.
        z: (series, states, 1 + averages): x, and the averages in the unit of the gradient (or of its square).
        rate: (series,) learning rate before the schedule, in units of x per unit of the gradient; 0 for weights
            that have not moved yet, which are held.
        weight: (series,) squared unit of x, relative to its mean.
        decay: (series, 2) decoupled weight decay per step is decay[0] x + decay[1].
        steps: (series, states) the optimizer's step count at each state.
        factor: the schedule's factor on the learning rate, as a function of a step and a number of steps over which its
            mean is taken.
        rule: the optimizer's part of the flow.
    """

    frame: Frame
    context: np.ndarray
    z: Tensor
    rate: Tensor
    weight: Tensor
    decay: Tensor
    steps: Tensor
    factor: Callable[[Tensor, float], Tensor | float]
    rule: UpdateRule

    def part(self, series: Tensor) -> "Course":
        """The course of the series with these indices (m,); frame and context stay those of all."""
        names = ("z", "rate", "weight", "decay", "steps")
        return replace(self, **{name: getattr(self, name)[series] for name in names})

    def to(self, device: str | torch.device) -> "Course":
        """The same course with its tensors on a device."""
        names = ("z", "rate", "weight", "decay", "steps")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def velocity(self, z: Tensor, g: Tensor, q: Tensor | None, step: Tensor, count: float) -> Tensor:
        """Velocities per optimizer step of states z (series, times, 1 + averages), given g and q (series, times)."""
        return torch.stack(self.velocities(z, g, q, step, count), dim=-1)

    def velocities(self, z: Tensor, g: Tensor, q: Tensor | None, step: Tensor, count: float) -> list[Tensor]:
        """The same as a list of (series, times) tensors, one for x and each average; ``step`` may have a single row."""
        d, averages = self.rule.velocity(tuple(z[..., 1:].unbind(-1)), g, q, step, count)
        way = self.rate[:, None] * d
        if self.decays:
            way = way + self.decay[:, :1] * z[..., 0] + self.decay[:, 1:]
        return [-self.factor(step, count) * way, *averages]

    @cached_property
    def decays(self) -> bool:
        """Whether there is any decoupled weight decay."""
        return bool(self.decay.any())


@dataclass(frozen=True)
class Units:
    """How courses are made: the choices of the fit, and the common unit of the fitted runs.

    Attributes:
        n: number of the last observed state.
        optimizer_state, scale, context: see :class:`Conditioning`.
        common: unit of x where ``scale`` is ``"none"``.
        dtype: of the tensors.
    """

    n: int
    optimizer_state: bool | str
    scale: str
    context: str
    common: float
    dtype: torch.dtype

    def of_runs(self, data: Trajectories) -> tuple[np.ndarray, np.ndarray]:
        """What depends on whole runs: the units of x, (runs, 1) or (runs, p), and the (runs,) least units of g."""
        return self._lengths(data), self._least(data)

    def _lengths(self, data: Trajectories) -> np.ndarray:
        if self.scale == "none":
            return np.full((data.runs, 1), self.common)
        return units_of(data.weights[:, : self.n + 1], self.scale, groups=data.groups)

    def _least(self, data: Trajectories) -> np.ndarray:
        return least_units(self._seen(data)) if self.optimizer_state else np.zeros(data.runs)

    def _seen(self, data: Trajectories) -> Trajectories:
        return data if data.weights.shape[1] == self.n + 1 else data.prefix(self.n)

    def course(self, data: Trajectories, of_runs: tuple[np.ndarray, np.ndarray] | None = None) -> Course:
        """The course of recorded runs, or of a prefix.

        Args:
            data: the runs.
            of_runs: :meth:`of_runs` of the whole runs, if the data are a part of them.

        Raises:
            InputError: The optimizer's state is needed and missing, or its rule is not known.
        """
        lengths, floor = self.of_runs(data) if of_runs is None else of_runs
        n = self.n
        prefix = self._seen(data)
        frame = Frame.of(prefix.weights, self.scale, lengths, prefix.groups)
        steps = np.repeat(step_counts(data), data.parameters, axis=0).astype(np.float64)
        passed = steps[0, n] - steps[0, 0]
        rule = rule_of(data.meta) if self.optimizer_state is True else DescentRule()
        lr = learning_rate(data) if self.optimizer_state else 1.0  # without the optimizer's state its value cancels
        schedule = factors_of(data)
        averages = [to_series(value).astype(np.float64) for value in averages_of(data, rule).values()]
        unit = rule.unit(tuple(torch.from_numpy(a[:, n]) for a in averages), torch.from_numpy(steps[:, n]))
        if unit is None:  # the gradient that moves a weight at the mean speed of the prefix
            rate = rule.slow / passed / _now(schedule, steps[:, n])
            gradient = rate * frame.scale / lr
        else:
            gradient = np.maximum(unit.numpy(), np.maximum(np.repeat(floor, data.parameters), TINIEST))
            rate = lr / frame.scale
        still = (frame.prefix[:, :n] == 0).all(axis=1)
        powers = [2 if name == "second" else 1 for name in rule.averages]
        parts = [frame.inward(data.weights)]
        parts += [a / gradient[:, None] ** power for a, power in zip(averages, powers, strict=True)]
        z = np.stack(parts, axis=-1)
        context = frame.context(self.context)
        if self.optimizer_state:
            channels = state_channels(prefix, floor)
            channels[..., 0:-1:2] /= frame.scale[:, None, None]  # those times lr, in units of weights
            context = np.hstack([context, channels.reshape(len(context), -1)])
        rate = np.where(still, 0.0, rate)
        weight = np.square(frame.scale) / np.square(frame.scale).mean()
        decay = lr * rule.decay * np.stack([np.ones(len(rate)), frame.origin / frame.scale], axis=1)
        decay[still] = 0.0
        arrays = {"z": z, "rate": rate, "weight": weight, "decay": decay, "steps": steps}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)).to(self.dtype) for name, a in arrays.items()}
        return Course(frame, context, factor=_factor(schedule), rule=rule, **tensors)


def factors_of(data: Trajectories) -> np.ndarray | None:
    """``meta["schedule"]`` (entries,): entry k multiplies ``meta["lr"]`` in the step from k to k+1.

    The last entry holds for all later steps. None if there is no schedule.

    Raises:
        InputError: It is not a sequence of finite numbers of at least 0.
    """
    given = data.meta.get("schedule")
    if given is None:
        return None
    try:
        factors = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        factors = np.empty((0, 0))
    if factors.ndim != 1 or not factors.size or not np.isfinite(factors).all() or (factors < 0).any():
        raise InputError(
            "meta['schedule'] must hold one factor of the learning rate for each step of the optimizer, finite numbers "
            f"of at least 0; it is {str(given)[:60]!r}."
        )
    return factors


def _factor(schedule: np.ndarray | None) -> Callable[[Tensor, float], Tensor | float]:
    """The mean of the schedule's factors over the ``count`` steps after ``step``; at its end the last factor stays."""
    if schedule is None:
        return lambda step, count: 1.0
    factors = torch.from_numpy(schedule)
    sums = factors.cumsum(0) - factors

    def before(step: Tensor) -> Tensor:
        last = step.long().clamp(0, len(factors) - 1)
        return sums.to(step.device)[last] + (step - last) * factors.to(step.device)[last]

    return lambda step, count: ((before(step.double() + count) - before(step.double())) / count).to(step.dtype)


def _now(schedule: np.ndarray | None, steps: np.ndarray) -> np.ndarray:
    """The schedule's factors after these numbers of steps; 1 where they are 0, for they set the unit of gradients."""
    if schedule is None:
        return np.ones(len(steps))
    factors = schedule[np.clip(steps.astype(np.int64), 0, len(schedule) - 1)]
    return np.where(factors == 0, 1.0, factors)
