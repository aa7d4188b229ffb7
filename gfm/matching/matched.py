"""The flow of gradient flow matching, weight by weight: a network's field, carried by the optimizer's own rule."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError, NumericalError
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import to_series
from gfm.forecasting.training import train_module
from gfm.matching.field import LEAST, NetworkField, numbers_in
from gfm.matching.flow import Flow, pieces
from gfm.matching.frame import Frame, units_of
from gfm.matching.integrate import Solver, integrate
from gfm.matching.loss import flow_matching_loss
from gfm.matching.optimizer_state import gradients, state_features
from gfm.matching.options import Network
from gfm.matching.rules import Descent, UpdateRule, rule_of
from gfm.matching.selection import choose
from gfm.trajectories import Trajectories

__all__ = ["Course", "MatchedFlow"]

STEP = "optimizer.step"
"""Buffer with the optimizer's own count of steps, (runs, states), where runs do not begin at its first step."""
CLIP = 8.0
"""Standardised features are cut here; far outside the fitted range a network's output means nothing."""
RIDGES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 0.0)
"""Candidate ridges of the linear start, relative to the mean square of each feature."""
MOST = 20_000
"""Most series from which the linear start is computed."""
SMALLEST = 1e-3
"""Least unit of a weight's gradients, relative to the root mean square over the run's weights."""
TINIEST = 1e-150
"""Least unit of a gradient in a run without any; its square is still a number."""


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
        steps: (series, states) numbers of the optimizer's steps.
        factor: of the learning rate by its schedule: its mean over a number of steps from a given one on.
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

    def part(self, series: Tensor) -> Course:
        """Some of the series (without their frame and context)."""
        names = ("z", "rate", "weight", "decay", "steps")
        return replace(self, **{name: getattr(self, name)[series] for name in names})

    def velocity(self, z: Tensor, g: Tensor, q: Tensor | None, step: Tensor, count: float) -> Tensor:
        """Velocities per step of the states z (series, times, 1 + averages), for values (series, times) of g and q."""
        d, averages = self.rule.velocity(tuple(z[..., 1:].unbind(-1)), g, q, step, count)
        shrink = self.decay[:, :1] * z[..., 0] + self.decay[:, 1:]
        x = -self.factor(step, count) * (self.rate[:, None] * d + shrink)
        return torch.stack([x, *averages], dim=-1)


class MatchedFlow(Flow):
    """A network's field g(x, t | c), matched to recorded steps, in the flow of the optimizer's rule.

    The linear layer starts from the least-squares solution of the same matching problem; its ridge, the context, the
    unit and the use of the optimizer's state are chosen by held-out forecasts. Then all layers are trained.
    """

    view = "coordinate"
    network: NetworkField

    @classmethod
    def suits(cls, train: Trajectories) -> bool:
        """Always true: it handles any number of weights."""
        return True

    @property
    def asked(self) -> Network:
        """The options of the network, which this flow always has."""
        return self.options.network or Network()

    @property
    def size(self) -> int:
        """How many numbers were fitted."""
        return numbers_in(self.network)

    @property
    def notes(self) -> dict[str, object]:
        """What the held-out forecasts chose, and their error with the linear start."""
        return dict(self._notes)

    # -- fitting ---------------------------------------------------------------------------------
    def fit(self, train: Trajectories, held: Trajectories, report: FitReport) -> np.ndarray:
        """Find the linear start, train the network, and return the (runs,) held-out errors."""
        finalists = []
        for choice in self.options.conditioning.choices(bool(train.states)):
            other = copy.copy(self)
            errors, ridge = other._start(train, held, *choice)
            finalists.append((errors, ridge, other))
        errors, ridge, chosen = finalists[choose([finalist[0] for finalist in finalists])]
        vars(self).update(vars(chosen))
        self._notes = {
            "scale": self.scale, "context": self.context, "optimizer_state": self.optimizer_state, "ridge": ridge,
            "linear_error": float(errors.mean()),
        }
        self._train(train, held, report)
        return self.errors(held)

    def _start(
        self, train: Trajectories, held: Trajectories, optimizer_state: bool, scale: str, context: str
    ) -> tuple[np.ndarray, float]:
        """Set up the units, the features and the linear start; returns the held-out errors and the ridge."""
        self.optimizer_state, self.scale, self.context = optimizer_state, scale, context
        self.horizon = train.weights.shape[1] - 1 - self.n
        moved = train.weights[:, self.n].astype(np.float64) - train.weights[:, 0]
        self.common = float(np.sqrt(np.square(moved).mean())) or 1.0
        course = self._course(train)
        self.center = course.context.mean(axis=0)
        self.spread = np.maximum(course.context.std(axis=0), 1e-12)
        asked, dtype = self.asked, self.options.solver.torch_dtype
        self.network = NetworkField(
            len(self.center), asked.hidden, asked.knots, course.rule.squares, asked.state,
            self.options.training.seed, dtype,
        )
        solutions = self._linear(course)
        errors = []
        for kappa, b, q in solutions:
            self.network.start(kappa, b, q)
            errors.append(self._tried(held))
        best = int(np.argmin([error.mean() for error in errors]))
        self.network.start(*solutions[best])
        return errors[best], RIDGES[best]

    def _tried(self, held: Trajectories) -> np.ndarray:
        """The (runs,) held-out errors, infinite where the flow of a candidate is unstable."""
        try:
            return self.errors(held)
        except NumericalError:
            return np.full(held.runs, np.inf)

    def _linear(self, course: Course) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """(kappa, b, q) of the network's linear layer for every ridge, by least squares on all recorded steps.

        The velocity of x is affine in g, so that two evaluations of the rule give the g that a step shows. The
        coefficients are piecewise linear in time: the normal equations couple neighbouring knots only.
        """
        network = self.network
        some = torch.linspace(0, len(course.z) - 1, min(len(course.z), MOST)).round().long()
        course = course.part(some)
        features = torch.cat([self._standardised(course.context[some.numpy()]), torch.ones(len(some), 1)], dim=1)
        width = features.shape[1] + 1
        gram = features.new_zeros(network.knots * width, network.knots * width)
        right = features.new_zeros(network.knots * width)
        squares = features.new_zeros(2, network.knots)
        zero, one = features.new_zeros(len(some), 1), features.new_ones(len(some), 1)
        span = self.options.path.span
        for k in range(self.n, self.n + self.horizon - span + 1):
            z, step = course.z[:, k : k + 1], course.steps[:, k : k + 1]
            count = float(course.steps[0, k + span] - course.steps[0, k])
            u = (course.z[:, k + span : k + span + 1] - z) / count
            place = torch.tensor([[(k - self.n) / self.horizon * (network.knots - 1)]]).to(u)
            low = min(int(place), max(network.knots - 2, 0))
            share = float(place) - low
            q = None
            if network.squares:
                still, moving = (course.velocity(z, zero, q, step, count)[..., -1] for q in (zero, one))
                q = (u[..., -1] - still) / (moving - still)
                mean = (course.weight * q[:, 0]).sum()
                squares[0, low] += (1 - share) * mean
                squares[1, low] += (1 - share) * course.weight.sum()
                if low + 1 < network.knots:
                    squares[0, low + 1] += share * mean
                    squares[1, low + 1] += share * course.weight.sum()
            given = LEAST * z[..., 0] if network.state == "restoring" else zero  # with the kappa of the start
            still, moving = (course.velocity(z, given + g, q, step, count)[..., 0] for g in (zero, one))
            response = (moving - still) * course.weight.sqrt()[:, None]
            x = z[..., 0] if network.state == "linear" else zero
            rows = response * torch.cat([x, -features], dim=1)
            rows = torch.cat([(1 - share) * rows, share * rows], dim=1)[:, : (network.knots - low) * width]
            at = slice(low * width, low * width + rows.shape[1])
            gram[at, at] += rows.T @ rows
            right[at] += rows.T @ ((u[..., 0] - still) * course.weight.sqrt()[:, None])[:, 0]
        size = gram.diagonal().sqrt()
        size[size == 0] = 1.0
        values, vectors = torch.linalg.eigh(gram / size[:, None] / size)
        inside = vectors.T @ (right / size)
        solved = values > values[-1] * 1e-14
        q = None
        if network.squares:
            q = squares[0] / squares[1].clamp_min(1e-300)
        out = []
        for ridge in RIDGES:
            gain = torch.where(solved, inside / (values + ridge).clamp_min(1e-300), 0.0)
            found = (vectors @ gain / size).view(network.knots, width)
            out.append((found[:, 0], found[:, 1:], q))
        return out

    def _train(self, train: Trajectories, held: Trajectories, report: FitReport) -> None:
        """Train all layers by conditional flow matching."""
        asked, path, training = self.asked, self.options.path, self.options.training
        course, network = self._course(train), self.network
        context = self._standardised(course.context)
        count = float(course.steps[0, self.n + path.span] - course.steps[0, self.n])
        weights = course.weight[:, None].expand(-1, course.z.shape[2]).clone()
        weights[:, 1:] = (course.rate > 0)[:, None]
        unit = self._units(course, context, weights, count)  # what the linear start leaves of every velocity

        def loss(series: Tensor, generator: torch.Generator) -> Tensor:
            some, rows = course.part(series), torch.arange(len(series))[:, None]
            k = torch.randint(0, self.horizon - path.span + 1, (len(series), asked.times), generator=generator)
            coefficients = network.coefficients(context[series])

            def velocity(z: Tensor, time: Tensor) -> Tensor:
                z, time = z.view(*k.shape, -1), time.view(k.shape)
                g, q = network.values(network.between(coefficients, time / self.horizon), z[..., 0])
                step = some.steps[:, self.n, None] + time * (count / path.span)
                return (some.velocity(z, g, q, step, count) / unit).flatten(0, 1)

            return flow_matching_loss(
                velocity,
                path,
                some.z[rows, self.n + k].flatten(0, 1),
                some.z[rows, self.n + k + path.span].flatten(0, 1),
                k.flatten().to(some.z.dtype),
                lambda _, u: u * (path.span / count) / unit,
                generator,
                weights[series].repeat_interleave(k.shape[1], dim=0),
            )

        train_module(
            network, loss, len(course.z), lambda: float(self._tried(held).mean()), training, report, True
        )

    @torch.no_grad()
    def _units(self, course: Course, context: Tensor, weights: Tensor, count: float) -> Tensor:
        """(1 + averages,) root mean square of the velocities that the present network leaves unexplained."""
        span, network = self.options.path.span, self.network
        total = course.z.new_zeros(course.z.shape[2])
        coefficients = network.coefficients(context)
        ks = range(self.n, self.n + self.horizon - span + 1, max(self.horizon // 20, 1))
        for k in ks:
            z = course.z[:, k : k + 1]
            share = torch.full((len(z), 1), (k - self.n) / self.horizon).to(z)
            g, q = network.values(network.between(coefficients, share), z[..., 0])
            left = course.velocity(z, g, q, course.steps[:, k : k + 1], count) - (
                course.z[:, k + span : k + span + 1] - z
            ) / count
            total += (weights * left[:, 0].square()).mean(dim=0)
        return (total / len(ks)).sqrt().clamp_min(1e-300)

    # -- units and features ----------------------------------------------------------------------
    def _least(self, data: Trajectories) -> np.ndarray:
        """(runs,) least unit of a weight's gradients; 0 where there are no second moments."""
        if not self.optimizer_state or "second" not in data.states:
            return np.zeros(data.runs)
        last = data.states["second"][:, self.n].astype(np.float64)
        return SMALLEST * np.sqrt(last.mean(axis=1))

    def _course(self, data: Trajectories, units: np.ndarray | None = None, least: np.ndarray | None = None) -> Course:
        """The flow's coordinates of recorded runs, or of a prefix.

        Args:
            data: the runs.
            units: those of the whole runs, if the data are a part of them.
            least: likewise (:meth:`_least`).
        """
        n = self.n
        prefix = data if data.weights.shape[1] == n + 1 else data.prefix(n)
        dtype = self.options.solver.torch_dtype
        if self.scale == "none":
            units = np.full((data.runs, 1), self.common)
        frame = Frame.of(prefix.weights, self.scale, units, prefix.groups)
        steps = np.broadcast_to(data.buffers.get(STEP, data.steps), (data.runs, data.weights.shape[1]))
        steps = np.repeat(steps, data.parameters, axis=0).astype(np.float64)
        passed = steps[0, n] - steps[0, 0]
        rule = rule_of(data.meta) if self.optimizer_state else Descent()
        lr, schedule = data.meta.get("lr", 1.0), data.meta.get("schedule")
        missing = [name for name in rule.averages if name not in data.states]
        if missing:
            raise InputError(
                f"The optimizer-aware flow needs the optimizer's {missing[0]!r} in the trajectories; record them with "
                f"states=True, or use Conditioning(optimizer_state=False)."
            )
        averages = [to_series(data.states[name]).astype(np.float64) for name in rule.averages]
        unit = rule.unit(tuple(torch.from_numpy(a[:, n]) for a in averages), torch.from_numpy(steps[:, n]))
        if unit is None:  # the gradient that moves a weight at the mean speed of the prefix
            rate = rule.slow / passed / _now(schedule, steps[:, n])
            gradient = rate * frame.scale / lr
        else:
            floor = self._least(data) if least is None else least
            gradient = np.maximum(unit.numpy(), np.maximum(np.repeat(floor, data.parameters), TINIEST))
            rate = lr / frame.scale
        still = (frame.prefix[:, :n] == 0).all(axis=1)
        powers = [2 if name == "second" else 1 for name in rule.averages]
        parts = [frame.inward(data.weights)]
        parts += [a / gradient[:, None] ** power for a, power in zip(averages, powers, strict=True)]
        z = np.stack(parts, axis=-1)
        context = frame.context(self.context)
        if self.optimizer_state:
            parts = [context, state_features(prefix) / frame.scale[:, None], np.log(gradient)[:, None]]
            parts.append(z[:, n, 1 : 1 + ("momentum" in rule.averages)])
            if (np.diff(prefix.steps) == 1).all():  # otherwise the gradients between the recorded steps are unknown
                parts.append(to_series(gradients(prefix)).astype(np.float64) / gradient[:, None])
            context = np.hstack(parts)
        rate = np.where(still, 0.0, rate)
        weight = np.square(frame.scale) / np.square(frame.scale).mean()
        decay = lr * rule.decay * np.stack([np.ones(len(rate)), frame.origin / frame.scale], axis=1)
        decay[still] = 0.0
        arrays = {"z": z, "rate": rate, "weight": weight, "decay": decay, "steps": steps}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)).to(dtype) for name, a in arrays.items()}
        return Course(frame, context, factor=_factor(schedule), rule=rule, **tensors)

    def _standardised(self, context: np.ndarray) -> Tensor:
        scaled = np.clip((context - self.center) / self.spread, -CLIP, CLIP)
        return torch.from_numpy(scaled).to(self.options.solver.torch_dtype)

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, along the flow, in the prefix's dtype."""
        out = np.empty((prefix.runs, horizon, prefix.parameters), dtype=prefix.weights.dtype)
        units = None if self.scale == "none" else units_of(prefix.weights, self.scale, groups=prefix.groups)
        least = self._least(prefix)
        for some, part, piece in pieces(prefix, self.bytes_per_weight(horizon), solver.memory):
            unit = None if units is None else units[some, part] if units.shape[1] > 1 else units[some]
            course = self._course(piece, unit, least[some])
            out[some, :, part] = course.frame.outward(self._carry(course, horizon, solver))
        return out

    def _carry(self, course: Course, horizon: int, solver: Solver) -> np.ndarray:
        """(series, horizon) x along the flow."""
        coefficients = self.network.coefficients(self._standardised(course.context))
        count = float(course.steps[0, self.n] - course.steps[0, self.n - 1])
        since = course.steps[:, self.n, None]

        def velocity(t: Tensor, z: Tensor) -> Tensor:
            share = (t / self.horizon).expand(len(z), 1)
            g, q = self.network.values(self.network.between(coefficients, share), z[:, None, 0])
            return count * course.velocity(z[:, None], g, q, since + t * count, count)[:, 0]

        return integrate(velocity, course.z[:, self.n], horizon, solver)[..., 0].T.double().numpy()

    def bytes_per_weight(self, horizon: int) -> int:
        """Upper bound on the bytes that one weight needs during integration, from the arrays involved."""
        hidden = 3 * sum(self.asked.hidden)
        coefficients = 6 * self.network.knots * self.network.width
        return 8 * (12 * (self.n + 1) + 6 * len(self.center) + hidden + coefficients + 8 * horizon)


def _factor(schedule: list[float] | None) -> Callable[[Tensor, float], Tensor | float]:
    """The mean of the schedule's factors over ``count`` steps after ``step`` ones; its last factor stays."""
    if schedule is None:
        return lambda step, count: 1.0
    factors = torch.tensor(schedule, dtype=torch.float64)
    sums = factors.cumsum(0) - factors

    def before(step: Tensor) -> Tensor:
        last = step.long().clamp(0, len(factors) - 1)
        return sums[last] + (step - last) * factors[last]

    return lambda step, count: ((before(step.double() + count) - before(step.double())) / count).to(step.dtype)


def _now(schedule: list[float] | None, steps: np.ndarray) -> np.ndarray:
    """The schedule's factors after these numbers of steps, 1 where they are 0: by them the unit of gradients is set."""
    if schedule is None:
        return np.ones(len(steps))
    factors = np.asarray(schedule, dtype=np.float64)[np.clip(steps.astype(np.int64), 0, len(schedule) - 1)]
    return np.where(factors == 0, 1.0, factors)
