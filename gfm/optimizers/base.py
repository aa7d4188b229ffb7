"""The interface of every optimizer: a discrete step, and the rates of its state for the flows.

All rules have the same form: the state is updated first, then the weights, with gradient g_t = grad L(w_t):

    s_t = update(s_{t-1}, g_t),        w_{t+1} = w_t - P(s_t)^{-1} direction(s_t, g_t) - decay(s_t) w_t

P is the preconditioner: a number, one number per weight, or a matrix. The direction is the output of the rule's
``filter`` of the gradients: the gradient itself, or a momentum. A rule oscillates along an eigenvector of P^{-1} H once
its eigenvalue exceeds ``threshold`` (2 without momentum): the edge of stability. With decoupled weight decay
E = (1 - decay / 2) P, the rule's ``edge``, takes the place of P, since w_{t+1} = -w_t implies H w = threshold E w.
While a bias correction lengthens the first steps of a momentum, E is smaller by the same factor.

Source: Central Flows (arXiv 2410.24206), sections on RMSProp; notation of the authors' code.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor

from gfm.checks import number
from gfm.errors import InputError, said
from gfm.linalg.preconditioner import MatrixPreconditioner, Preconditioner
from gfm.optimizers.filters import Filter
from gfm.problem.flat import Flat

__all__ = ["Memory", "Optimizer", "Preconditioner", "Schedule", "State", "check_lr", "check_share"]

Schedule = float | Callable[[float], float]


@dataclass(frozen=True)
class State:
    """An optimizer's state, or its rate of change: time in steps, and running averages.

    A rule with more state derives a frozen dataclass from this one, with fields that are numbers, tensors or tuples of
    tensors; in a rate of change a field may be left out or None, which stands for zero.

    Args:
        t: number of steps taken.
        nu: second-moment average, 0-d or (p,).
        momentum: the state of the rule's filter, (p,) or (rows, p); None if the direction is the gradient.
    """

    t: float = 0.0
    nu: Tensor | None = None
    momentum: Tensor | None = None

    def moved(self, rates: "State", dt: float) -> Self:
        """The state after an Euler step of length ``dt`` along ``rates``."""
        moving = {name: rate for name, rate in vars(rates).items() if rate is not None}
        values = {name: value for name, value in vars(self).items() if value is not None and name in moving}
        return replace(self, **{name: value + dt * moving[name] for name, value in values.items()})


class Memory(NamedTuple):
    """How oscillations affect the preconditioner: they increase nu at ``rate`` times the observed square.

    Args:
        rate: (1 - beta2) / beta2. The flow's nu is the average *after* the step's update, for which
            nu_t - nu_{t-1} = rate * (g_t^2 - nu_t) holds exactly.
        sensitivity: dP / dnu, of nu's shape.
    """

    rate: float
    sensitivity: Tensor


class Optimizer(ABC):
    """An immutable update rule; its state is kept separately, in a :class:`State`.

    ``name`` identifies it in runs and on the command line. ``lr`` is a number or a function of the step.

    A new rule defines ``preconditioner`` and, if it has momentum, ``filter``. Second moments and other state need
    ``init`` and ``update``, which change nothing in place and keep nothing outside the state. The flows also need

    - ``rates`` and ``preconditioner_rate``, if the preconditioner depends on more of the state than the time t;
    - ``memory`` and ``observed``, if it depends on squared gradients, which nu averages.

    A rule whose ``direction`` is not a linear filter of the gradients has no flow.
    ``gfm.central.run`` calls :func:`check_rule`, which refuses a rule whose methods contradict each other.
    """

    name: ClassVar[str]
    lr: Schedule

    @property
    def filter(self) -> Filter:
        """The linear filter that turns gradients into ``direction``; by default the identity."""
        return Filter()

    @property
    def threshold(self) -> float:
        """The eigenvalue of P^{-1} H at which the rule starts to oscillate: the filter's, 2 without momentum."""
        return self.filter.threshold

    def init(self, w: Tensor) -> State:
        """State before the first step, for weights (p,)."""
        return State(momentum=self.filter.init(w))

    def update(self, state: State, g: Tensor) -> State:
        """s_t from s_{t-1} and the gradient (p,) at w_t."""
        return replace(state, t=state.t + 1.0, momentum=self.filter.update(state.momentum, g))

    @abstractmethod
    def preconditioner(self, state: State) -> Preconditioner:
        """P: a number, 0-d, (p,) or a matrix, including the learning rate."""

    def decay(self, state: State) -> Tensor | float:
        """Decoupled weight decay: the share of the weights that a step subtracts, a number or (p,)."""
        return 0.0

    def direction(self, state: State, g: Tensor) -> Tensor:
        """The vector (p,) that the discrete step divides by P: the filtered gradient, with gain 1 if it is constant."""
        return self.filter.output(state.momentum, g, state.t)

    def drift(self, w: Tensor, state: State, direction: Tensor) -> Tensor:
        """-P^{-1} direction - decay w, (p,): the change of w in a step, or a flow's rate without oscillation."""
        change: Tensor = (direction / self.preconditioner(state)).neg_()
        decay = self.decay(state)
        return change.sub_(decay * w) if isinstance(decay, Tensor) or decay else change

    def step(self, w: Tensor, state: State, g: Tensor) -> Tensor:
        """w_{t+1} from w_t (p,), the updated state and the gradient (p,)."""
        return w + self.drift(w, state, self.direction(state, g))

    def advance(self, w: Tensor, state: State, g: Tensor) -> tuple[Tensor, State]:
        """w_{t+1} and s_t from w_t (p,), s_{t-1} and the gradient (p,) at w_t."""
        state = self.update(state, g)
        return self.step(w, state, g), state

    def edge(self, state: State) -> Preconditioner:
        """E: directions oscillate where an eigenvalue of E^{-1} H exceeds ``threshold``.

        Without weight decay and bias correction it is P; otherwise a number, 0-d, (p,) or a matrix like P.
        """
        share = self.edge_share(state)
        return self.preconditioner(state) if share is None else share * self.preconditioner(state)

    def edge_share(self, state: State) -> Tensor | float | None:
        """E / P = (1 - decay / 2) times the filter's share of its full response, a number or (p,); None if it is 1."""
        return self._edge_share(state)[0]

    def _edge_share(self, state: State) -> tuple[Tensor | float | None, Tensor | float]:
        """E / P and its rate, on the assumption that the decay changes with the learning rate only."""
        (started, rising), decay = self.filter.started(state.t), self.decay(state)
        if isinstance(decay, Tensor) or decay:
            left = 1.0 - 0.5 * decay
            return started * left, rising * left - started * 0.5 * decay * self.log_lr_slope(state.t)
        return (None, 0.0) if started == 1.0 else (started, rising)

    def with_layout(self, flat: Flat) -> "Optimizer":
        """The rule for a module with this layout of weights; the rule itself, if it treats all weights alike."""
        return self

    def describe(self) -> dict[str, Any]:
        """The rule's kind and options as plain data."""
        options = {name: value for name, value in vars(self).items() if not (callable(value) or name.startswith("_"))}
        plain = (str, int, float, bool, type(None))
        return {"optimizer": type(self).__name__} | {
            name: value if isinstance(value, plain) else repr(value) for name, value in options.items()
        }

    # --- what the flows need ------------------------------------------------------------------

    def rates(self, state: State, g: Tensor) -> State:
        """ds/dt of the stable flow, for which only the gradient (p,) is observed."""
        return State(t=1.0)

    def preconditioner_rate(self, state: State, rates: State) -> Tensor | float:
        """The rate dP/dt along ``rates``, of P's shape."""
        return -diagonal(self.preconditioner(state)) * self.log_lr_slope(state.t)

    def edge_rate(self, state: State, rates: State) -> Tensor | float:
        """The rate dE/dt along ``rates``, of E's shape."""
        rate, (share, rising) = self.preconditioner_rate(state, rates), self._edge_share(state)
        return rate if share is None else share * rate + rising * diagonal(self.preconditioner(state))

    def memory(self, state: State) -> Memory | None:
        """How P follows squared gradients; None if it does not depend on them."""
        return None

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of gradients that nu averages: rows a, b (m, p) to (m, p) or (m, 1)."""
        raise NotImplementedError

    # --- the learning rate --------------------------------------------------------------------

    def lr_at(self, t: float) -> float:
        """The learning rate of step number ``t``, counted from 1: a schedule's value at ``t - 1``.

        Between two steps it is interpolated linearly, so that a flow can follow a schedule that jumps at each step.

        Raises:
            InputError: The schedule fails, or its value is not a positive number.
        """
        if not callable(self.lr):
            return self.lr
        step, share = _place(t)
        first = self._scheduled(step)
        return first + share * (self._scheduled(step + 1) - first) if share else first

    def log_lr_slope(self, t: float) -> float:
        """The rate d log lr / dt per step, from t on; zero for a constant, and at the last step of a schedule."""
        if not callable(self.lr):
            return 0.0
        step, _ = _place(t)
        try:
            return (self._scheduled(step + 1) - self._scheduled(step)) / self.lr_at(t)
        except InputError:
            return 0.0

    def _scheduled(self, step: int) -> float:
        """The schedule's value at a whole step."""
        assert callable(self.lr)
        try:
            value = float(self.lr(step))
        except Exception as failure:
            raise InputError(
                f"The learning-rate schedule gives no number at step {step}: {type(failure).__name__}: {said(failure)}."
            ) from failure
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"The learning-rate schedule gives {value} at step {step}; it must be positive.")
        return value


def _place(t: float) -> tuple[int, float]:
    """For time ``t`` (counted from 1): the whole step before it (counted from 0), and the share of the next one."""
    step = math.floor(max(t - 1.0, 0.0) + 1e-9)  # 1e-9: sums of substeps have rounding errors
    share = t - 1.0 - step
    return step, share if share > 1e-9 else 0.0


def diagonal(P: Preconditioner) -> Tensor | float:
    """P itself, a number, 0-d or (p,).

    Raises:
        InputError: P is a matrix, for which flows are not derived here.
    """
    if isinstance(P, MatrixPreconditioner):
        raise InputError(
            "The flows of rules with a matrix preconditioner are not derived here; run the processes discrete, "
            "midpoint or minibatch, which have its effective eigenvalues."
        )
    return P


def check_lr(lr: Schedule) -> Schedule:
    """``lr`` as a float if it is a number, or itself if it is callable.

    Raises:
        InputError: ``lr`` is neither callable nor a positive finite number.
    """
    if callable(lr):
        return lr
    return number("lr", lr, lambda x: 0 < x < math.inf, "a positive number or a function of the step")


def check_share(name: str, value: float, *, zero: bool = True) -> float:
    """``value`` as a float.

    Raises:
        InputError: ``value`` is not in [0, 1), or not in (0, 1) if ``zero`` is false.
    """
    low = "[" if zero else "("
    return number(name, value, lambda x: 0 < x < 1 or (zero and x == 0), f"a number in {low}0, 1)")
