"""The flow of gradient flow matching, weight by weight: a network's field, carried by the optimizer's own rule."""

import copy

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError, NumericalError
from gfm.forecasting.report import FitReport
from gfm.forecasting.series import from_series
from gfm.forecasting.training import train_module
from gfm.matching.course import Course, Units, factors_of
from gfm.matching.field import NetworkField, numbers_in
from gfm.matching.flow import Flow, pieces
from gfm.matching.integrate import Solver, integrate
from gfm.matching.linear_start import START_RIDGES, linear_starts
from gfm.matching.loss import flow_matching_loss
from gfm.matching.optimizer_state import knows_optimizer
from gfm.matching.options import Network
from gfm.matching.selection import choose
from gfm.trajectories import Trajectories

__all__ = ["MatchedFlow"]

CLIP = 8.0
"""Standardised features are clipped here; far outside the fitted range a network's output means nothing."""
AT_ONCE = 50_000
"""The largest number of series that are integrated at once when starts are compared."""


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
        self.stride, self.scheduled = train.stride, factors_of(train) is not None
        finalists = []
        for choice in self.options.conditioning.choices(knows_optimizer(train.prefix(self.n))):
            other = copy.copy(self)
            errors, ridge = other._start(train, held, *choice)
            finalists.append((errors, ridge, other))
        errors, ridge, chosen = finalists[choose([finalist[0] for finalist in finalists])]
        vars(self).update(vars(chosen))
        self._notes = {
            "scale": self.units.scale, "context": self.units.context, "optimizer_state": self.optimizer_state,
            "ridge": ridge, "linear_error": float(errors.mean()), "span": self.options.path.span,
        }
        self._train(train, held, report)
        return self.errors(held)

    def _start(
        self, train: Trajectories, held: Trajectories, optimizer_state: bool | str, scale: str, kind: str
    ) -> tuple[np.ndarray, float]:
        """Set up the units, the features and the linear start; returns the held-out errors and the ridge."""
        self.optimizer_state = optimizer_state
        self.horizon = train.weights.shape[1] - 1 - self.n
        moved = train.weights[:, self.n].astype(np.float64) - train.weights[:, 0]
        common = float(np.sqrt(np.square(moved).mean())) or 1.0
        dtype = self.options.solver.torch_dtype
        self.units = Units(self.n, optimizer_state, scale, kind, common, dtype)
        course = self.units.course(train)
        self.center = course.context.mean(axis=0)
        self.spread = np.maximum(course.context.std(axis=0), 1e-12)
        self.squares = course.rule.squares
        self.rebuild()
        context = self._standardised(course.context)
        solutions = linear_starts(self.network, course, context, self.n, self.options.path.span)
        errors = self._compared(solutions, *self._unseen(held))
        best = int(np.argmin([error.mean() for error in errors]))
        self.network.start(*solutions[best])
        return errors[best], START_RIDGES[best]

    def rebuild(self) -> None:
        """Make the network, with its initial weights."""
        asked, options = self.asked, self.options
        self.network = NetworkField(
            len(self.center), asked.hidden, asked.knots, self.squares, asked.state, options.training.seed,
            options.solver.torch_dtype,
        )

    def _unseen(self, held: Trajectories) -> tuple[Course, np.ndarray]:
        """The course of the held-out prefixes, and the (runs, horizon, p) states after them."""
        return self.units.course(held.prefix(self.n)), held.weights[:, self.n + 1 :]

    @torch.no_grad()
    def _compared(
        self, starts: list[tuple[Tensor, Tensor, Tensor | None]], unseen: Course, truth: np.ndarray
    ) -> list[np.ndarray]:
        """The (runs,) held-out errors of every start.

        All flows are integrated at once, unless there are too many series or one flow is unstable.
        """
        context, coefficients = self._standardised(unseen.context), []
        for start in starts:
            self.network.start(*start)
            coefficients.append(self.network.coefficients(context))
        try:
            if len(starts) * len(context) > AT_ONCE:
                return [self._tried(unseen, truth, own) for own in coefficients]
            many = unseen.part(torch.arange(len(context), device=context.device).repeat(len(starts)))
            states = self._carry(many, truth.shape[1], self.options.solver, torch.cat(coefficients))
        except NumericalError:
            return [self._tried(unseen, truth, own) for own in coefficients]
        return [self._wrong(unseen, own, truth) for own in np.split(states, len(starts))]

    def _wrong(self, unseen: Course, states: np.ndarray, truth: np.ndarray) -> np.ndarray:
        return np.square(unseen.frame.outward(states) - truth).mean(axis=(1, 2))

    @torch.no_grad()
    def _tried(self, unseen: Course, truth: np.ndarray, coefficients: Tensor | None = None) -> np.ndarray:
        """The (runs,) held-out errors, infinite where the flow of a candidate is unstable."""
        try:
            states = self._carry(unseen, truth.shape[1], self.options.solver, coefficients)
        except NumericalError:
            return np.full(len(truth), np.inf)
        return self._wrong(unseen, states, truth)

    def _train(self, train: Trajectories, held: Trajectories, report: FitReport) -> None:
        """Train all layers by conditional flow matching."""
        asked, path, training = self.asked, self.options.path, self.options.training
        course, network = self.units.course(train), self.network
        context = self._standardised(course.context)
        count = float(course.steps[0, self.n + path.span] - course.steps[0, self.n])
        weights = course.weight[:, None].expand(-1, course.z.shape[2]).clone()
        weights[:, 1:] = (course.rate > 0)[:, None]
        unit = self._units(course, context, weights, count)  # of the residuals of the linear start
        course, unseen = course.to(report.device), self._unseen(held)[0].to(report.device)
        context, weights, unit = (part.to(report.device) for part in (context, weights, unit))
        truth = held.weights[:, self.n + 1 :]

        def loss(series: Tensor, generator: torch.Generator) -> Tensor:
            some, rows = course.part(series), torch.arange(len(series), device=series.device)[:, None]
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
                k.flatten().to(some.z),
                lambda _, u: u * (path.span / count) / unit,
                generator,
                weights[series].repeat_interleave(k.shape[1], dim=0),
            )

        train_module(
            network, loss, len(course.z), lambda: float(self._tried(unseen, truth).mean()), training, report, True
        )

    @torch.no_grad()
    def _units(self, course: Course, context: Tensor, weights: Tensor, count: float) -> Tensor:
        """(1 + averages,) root mean square of the residuals that the present network leaves in the velocities."""
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
        return (total / len(ks)).sqrt().clamp_min(torch.finfo(total.dtype).tiny)

    def _standardised(self, context: np.ndarray) -> Tensor:
        scaled = np.clip((context - self.center) / self.spread, -CLIP, CLIP)
        return torch.from_numpy(scaled).to(self.options.solver.torch_dtype)

    # -- forecasting -----------------------------------------------------------------------------
    @torch.no_grad()
    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix, along the flow, in the prefix's dtype.

        Raises:
            InputError: The prefix was recorded at other intervals than the fitted runs, or lacks the schedule that they
                have.
        """
        if (self.optimizer_state or self.scheduled) and prefix.stride != self.stride:
            raise InputError(
                f"The flow was fitted to states {self.stride} steps apart, and those of the prefix are {prefix.stride} "
                "apart: resample it."
            )
        if self.scheduled and factors_of(prefix) is None:
            raise InputError("The flow was fitted under a schedule: the prefix must tell its own in meta['schedule'].")
        out = np.empty((prefix.runs, horizon, prefix.parameters), dtype=prefix.weights.dtype)
        lengths, least = self.units.of_runs(prefix)
        for some, part, piece in pieces(prefix, self.bytes_per_weight(horizon), solver.memory):
            own = lengths[some, part] if lengths.shape[1] > 1 else lengths[some]
            course = self.units.course(piece, (own, least[some]))
            out[some, :, part] = course.frame.outward(self._carry(course, horizon, solver))
        return out

    @torch.no_grad()
    def velocities(self, prefix: Trajectories, states: np.ndarray, later: np.ndarray) -> np.ndarray:
        """The field of a flow without averages: velocities per recorded state, (runs, places, p).

        Args:
            prefix: observed states.
            states: (runs, places, p) weights.
            later: (places,) the time of each place, in recorded states after the last observed one.

        Raises:
            InputError: The flow knows the optimizer, whose averages do not follow from the weights.
        """
        if self.optimizer_state:
            raise InputError("Weights alone do not tell the velocity of a flow that knows the optimizer.")
        course = self.units.course(prefix)
        x = torch.from_numpy(course.frame.inward(states)).to(course.z)
        since = torch.from_numpy(np.asarray(later)).to(x)[None]
        coefficients = self.network.coefficients(self._standardised(course.context))
        g, q = self.network.values(self.network.between(coefficients, since / self.horizon), x)
        count = float(course.steps[0, self.n] - course.steps[0, self.n - 1])
        v = count * course.velocity(x[..., None], g, q, course.steps[:, self.n, None] + count * since, count)[..., 0]
        return from_series(v.double().numpy() * course.frame.scale[:, None], prefix.parameters)

    def _carry(
        self, course: Course, horizon: int, solver: Solver, coefficients: Tensor | None = None
    ) -> np.ndarray:
        """(series, horizon) x along the flow, with the network's coefficients unless others are given."""
        if coefficients is None:
            coefficients = self.network.coefficients(self._standardised(course.context).to(course.z.device))
        # Numbers that are used together lie together in memory: most of the time is spent reading and writing.
        coefficients = coefficients.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        start = course.z[:, self.n].T.contiguous().T
        count = float(course.steps[0, self.n] - course.steps[0, self.n - 1])
        since = course.steps[:, self.n, None]
        if (since == since[0]).all():  # nearly always; then all that depends on time only is one number
            since = since[:1]

        def velocity(t: Tensor, z: Tensor) -> Tensor:
            share = (t / self.horizon).view(1, 1)
            g, q = self.network.values(self.network.between(coefficients, share), z[:, None, 0])
            return count * torch.stack(course.velocities(z[:, None], g, q, since + t * count, count))[..., 0].T

        return integrate(velocity, start, horizon, solver)[..., 0].T.double().cpu().numpy()

    def bytes_per_weight(self, horizon: int) -> int:
        """Upper bound on the bytes that one weight needs during integration, from the arrays involved."""
        hidden = 3 * sum(self.asked.hidden)
        coefficients = 6 * self.network.knots * self.network.width
        return 8 * (12 * (self.n + 1) + 6 * len(self.center) + hidden + coefficients + 8 * horizon)
