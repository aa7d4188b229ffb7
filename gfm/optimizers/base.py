"""The interface of every optimizer: a discrete step, and the rates of its state for the flows.

All rules have the same form: the state is updated first, then the weights, with gradient g_t = grad L(w_t):

    s_t = update(s_{t-1}, g_t),        w_{t+1} = w_t - P(s_t)^{-1} direction(s_t, g_t)

P is the preconditioner, a number or one number per weight. A rule oscillates along an eigenvector of
P^{-1} H once its eigenvalue exceeds ``threshold`` (2 without momentum): the edge of stability.

Source: Central Flows (arXiv 2410.24206), sections on RMSProp; notation of the authors' code.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from gfm.checks import number
from gfm.errors import InputError

__all__ = ["Memory", "Optimizer", "Schedule", "State", "check_lr", "check_share"]

Schedule = float | Callable[[float], float]


@dataclass(frozen=True)
class State:
    """An optimizer's state, or its rate of change: time in steps, and running averages.

    Args:
        t: number of steps taken.
        nu: second-moment average, 0-d or (p,).
        momentum: (p,).
    """

    t: float = 0.0
    nu: Tensor | None = None
    momentum: Tensor | None = None

    def moved(self, rates: State, dt: float) -> State:
        """The state after an Euler step of length ``dt`` along ``rates``."""

        def add(value: Tensor | None, rate: Tensor | None) -> Tensor | None:
            return value if value is None or rate is None else value + dt * rate

        return State(self.t + dt * rates.t, add(self.nu, rates.nu), add(self.momentum, rates.momentum))


class Memory(NamedTuple):
    """How oscillations affect the preconditioner: they increase nu at ``rate`` times the observed square.

    Args:
        rate: (1 - beta2) / beta2. The flow's nu stands for the average *after* the step's update, and
            nu_t - nu_{t-1} = rate * (g_t^2 - nu_t) holds exactly.
        sensitivity: dP / dnu, of nu's shape.
    """

    rate: float
    sensitivity: Tensor


class Optimizer(ABC):
    """An immutable update rule; its state is kept separately, in a :class:`State`.

    ``name`` identifies it in runs and on the command line. ``lr`` is a number or a function of the step.
    """

    name: ClassVar[str]
    lr: Schedule

    @property
    def threshold(self) -> float:
        """The eigenvalue of P^{-1} H at which the rule starts to oscillate: 2 without momentum."""
        return 2.0

    def init(self, w: Tensor) -> State:
        """State before the first step, for weights (p,)."""
        return State()

    def update(self, state: State, g: Tensor) -> State:
        """s_t from s_{t-1} and the gradient (p,) at w_t."""
        return State(state.t + 1.0)

    @abstractmethod
    def preconditioner(self, state: State) -> Tensor | float:
        """P: a number, 0-d, or (p,); a flow's unit of time is one step."""

    def direction(self, state: State, g: Tensor) -> Tensor:
        """The vector (p,) that the discrete step divides by P: the gradient, unless the rule has momentum."""
        return g

    def step(self, w: Tensor, state: State, g: Tensor) -> Tensor:
        """w_{t+1} from w_t (p,), the updated state and the gradient (p,)."""
        return w - self.direction(state, g) / self.preconditioner(state)

    def advance(self, w: Tensor, state: State, g: Tensor) -> tuple[Tensor, State]:
        """w_{t+1} and s_t from w_t (p,), s_{t-1} and the gradient (p,) at w_t."""
        state = self.update(state, g)
        return self.step(w, state, g), state

    # --- what the flows need ------------------------------------------------------------------

    def rates(self, state: State, g: Tensor) -> State:
        """ds/dt of the stable flow, for which only the gradient (p,) is observed."""
        return State(t=1.0)

    def preconditioner_rate(self, state: State, rates: State) -> Tensor | float:
        """The rate dP/dt along ``rates``, of P's shape."""
        return -self.preconditioner(state) * self.log_lr_slope(state.t)

    def memory(self, state: State) -> Memory | None:
        """How P follows squared gradients; None if it does not depend on them."""
        return None

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of gradients that nu averages: rows a, b (m, p) to (m, p) or (m, 1)."""
        raise NotImplementedError

    # --- the learning rate --------------------------------------------------------------------

    def lr_at(self, t: float) -> float:
        """The learning rate of step number ``t``, counted from 1: a schedule's value at ``t - 1``.

        Raises:
            InputError: The schedule fails, or its value is not a positive number.
        """
        if not callable(self.lr):
            return self.lr
        try:
            value = float(self.lr(max(t - 1.0, 0.0)))
        except Exception as failure:
            raise InputError(
                f"the learning-rate schedule gives no number at step {t - 1:g}: {type(failure).__name__}: {failure}"
            ) from failure
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"the learning-rate schedule gives {value} at step {t - 1:g}; it must be positive")
        return value

    def log_lr_slope(self, t: float) -> float:
        """The rate d log lr / dt per step, by a central difference; zero for a constant."""
        if not callable(self.lr):
            return 0.0
        h = 1e-3
        return (math.log(self.lr_at(t + h)) - math.log(self.lr_at(max(t - h, 1.0)))) / (t + h - max(t - h, 1.0))


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
