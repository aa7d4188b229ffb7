"""Optimizers with a running average of squared gradients: RMSProp, with one for each weight or one for all."""

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from gfm.checks import flag, number
from gfm.optimizers.base import Memory, Optimizer, Schedule, State, check_lr, check_share

__all__ = ["RMSProp", "ScalarRMSProp", "SecondMoment"]


@dataclass(frozen=True)
class SecondMoment(Optimizer):
    """nu <- beta2 nu + (1 - beta2) square(g);  P = (sqrt(nu_hat) + eps) / lr.

    nu_hat is nu, or nu / (1 - beta2^t) with bias correction. The epsilon is added outside the root.

    Args:
        lr: positive number, or a function of the step (0, 1, ...).
        beta2: in (0, 1).
        eps: at least 0.
        bias_correction: whether nu is corrected for its start at zero.

    Raises:
        InputError: ``lr`` is not positive, ``beta2`` is not in (0, 1), ``eps`` is negative, or
            ``bias_correction`` is neither True nor False.
    """

    lr: Schedule
    beta2: float = 0.99
    eps: float = 0.0
    bias_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", check_lr(self.lr))
        object.__setattr__(self, "beta2", check_share("beta2", self.beta2, zero=False))
        object.__setattr__(self, "eps", number("eps", self.eps, lambda x: 0 <= x < math.inf, "a number of at least 0"))
        object.__setattr__(self, "bias_correction", flag("bias_correction", self.bias_correction))

    @abstractmethod
    def square(self, g: Tensor) -> Tensor:
        """The square of a gradient (p,) that nu averages: 0-d or (p,)."""

    def init(self, w: Tensor) -> State:
        """The state with nu zero, of the shape of the gradient's square."""
        return replace(super().init(w), nu=torch.zeros_like(self.square(w)))

    def update(self, state: State, g: Tensor) -> State:
        """The state with nu replaced by beta2 nu + (1 - beta2) square(g)."""
        assert state.nu is not None
        nu = self.beta2 * state.nu + (1.0 - self.beta2) * self.square(g)
        return replace(super().update(state, g), nu=nu)

    def correction(self, t: float) -> float:
        """b(t) with nu_hat = b nu."""
        return 1.0 / (1.0 - self.beta2**t) if self.bias_correction else 1.0

    def root(self, state: State) -> Tensor:
        """sqrt(nu_hat), of nu's shape, kept above zero even for weights that never had a gradient (and never move)."""
        assert state.nu is not None
        nu_hat = state.nu * self.correction(state.t)
        return nu_hat.clamp(min=torch.finfo(nu_hat.dtype).tiny).sqrt()

    def preconditioner(self, state: State) -> Tensor:
        """P = (sqrt(nu_hat) + eps) / lr, of nu's shape."""
        return (self.root(state) + self.eps) / self.lr_at(state.t)

    def rates(self, state: State, g: Tensor) -> State:
        """The rate of nu per step, of nu's shape: (1 - beta2) / beta2 (g^2 - nu) for a gradient (p,)."""
        assert state.nu is not None
        return State(1.0, nu=self._rate * (self.square(g) - state.nu))

    @property
    def _rate(self) -> float:
        return (1.0 - self.beta2) / self.beta2

    def memory(self, state: State) -> Memory:
        """The rate at which nu follows g^2, and dP / d nu at fixed time."""
        sensitivity = self.correction(state.t) / (2.0 * self.root(state) * self.lr_at(state.t))
        return Memory(self._rate, sensitivity)

    def preconditioner_rate(self, state: State, rates: State) -> Tensor:
        """The rate of P per step, of P's shape: through nu, the bias correction and the learning rate."""
        assert rates.nu is not None
        moved = self.memory(state).sensitivity * rates.nu
        if self.bias_correction:
            decay = self.beta2**state.t
            slope = decay * math.log(self.beta2) / (1.0 - decay)  # d log b / dt
            moved = moved + 0.5 * slope * self.root(state) / self.lr_at(state.t)
        return moved - self.preconditioner(state) * self.log_lr_slope(state.t)


@dataclass(frozen=True)
class RMSProp(SecondMoment):
    """One step size for each weight: nu <- beta2 nu + (1 - beta2) g * g,  w <- w - lr g / (sqrt(nu) + eps); nu is (p,).

    Args:
        lr, beta2, eps, bias_correction: see :class:`SecondMoment`.
    """

    name: ClassVar[str] = "rmsprop"

    def square(self, g: Tensor) -> Tensor:
        """The square of each coordinate, (p,)."""
        return g * g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """Products coordinate by coordinate, (m, p)."""
        return a * b


@dataclass(frozen=True)
class ScalarRMSProp(SecondMoment):
    """One step size for all weights: nu <- beta2 nu + (1 - beta2) g.g, w <- w - lr g / (sqrt(nu) + eps); nu is 0-d.

    Args:
        lr, beta2, eps, bias_correction: see :class:`SecondMoment`.
    """

    name: ClassVar[str] = "scalar_rmsprop"

    def square(self, g: Tensor) -> Tensor:
        """The squared norm of the gradient, 0-d."""
        return g @ g

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """Inner products of the rows, (m, 1)."""
        return (a * b).sum(-1, keepdim=True)
