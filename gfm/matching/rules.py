"""The optimizer inside the flow: how the weights and the optimizer's averages move, given a gradient.

An optimizer turns gradients into steps by way of averages, so the state of a flow that follows it contains these
averages beside the weights. With the learning rate a, a gradient g and, where squares are averaged, a separate square q
(the mean of a square is not the square of a mean), per step::

    SGD        dw = -a g
    momentum   dw = -a (b + db),                 db = g - (1 - mu) b
    RMSprop    dw = -a g / sqrt(s + ds),         ds = (1 - alpha) (q - s)
    Adam       dw = -a m' / sqrt(v'),            dm = (1 - b1) (g - m),  dv = (1 - b2) (q - v),
               m' = (m + dm) / (1 - b1^k),       v' = (v + dv) / (1 - b2^k)

One Euler step of this flow is one step of the optimizer. If states are recorded every G steps, the velocities are
means over G steps at constant g and q. They are exact for heavy-ball momentum and for m; roots and bias corrections are
taken at the middle of the G steps.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from gfm.errors import InputError

__all__ = ["RULES", "AdamRule", "DescentRule", "HeavyBallRule", "RMSpropRule", "UpdateRule", "rule_of"]


@dataclass(frozen=True)
class UpdateRule:
    """One optimizer's part of the flow; a subclass defines :meth:`velocity`.

    Attributes:
        averages: names of the optimizer's averages, as in ``Trajectories.states``.
        squares: whether it needs q beside g.
        known: torch's options that the flow takes (``betas`` as ``beta1`` and ``beta2``) -> their names here.
        unknown: torch's options that it does not take; ``refusal`` is the sentence that says so.
        decay: decoupled weight decay, per step and learning rate.
    """

    averages: ClassVar[tuple[str, ...]] = ()
    squares: ClassVar[bool] = False
    known: ClassVar[dict[str, str]] = {}
    unknown: ClassVar[tuple[str, ...]] = ()
    refusal: ClassVar[str] = ""
    decay: float = 0.0

    @property
    def slow(self) -> float:
        """Ratio of a constant gradient to the direction that results from it."""
        return 1.0

    @classmethod
    def of(cls, options: dict[str, Any]) -> "UpdateRule":
        """The rule with torch's options of that optimizer.

        Raises:
            InputError: One of them is an option that the flow does not know.
        """
        if any(options.get(name, 0) for name in cls.unknown):
            raise InputError(cls.refusal)
        told = {**options, **dict(zip(("beta1", "beta2"), options.get("betas", ()), strict=False))}
        return cls(**{name: told[option] for option, name in cls.known.items() if option in told})

    def velocity(
        self, averages: tuple[Tensor, ...], g: Tensor, q: Tensor | None, step: Tensor | float, count: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The direction d of the weights, dw/dt = -a d, and the velocities of the averages, all per step.

        Args:
            averages: (batch,) each, in the unit of g (or of its square).
            g: (batch,) gradient.
            q: (batch,) square of the gradient, if :attr:`squares`.
            step: number of steps taken so far.
            count: G, the number of steps over which the velocities are averaged.
        """
        return g, ()

    def unit(self, averages: tuple[Tensor, ...], step: Tensor) -> Tensor | None:
        """(series,) root of the second moment, which serves as unit of the gradients; None if there is none."""
        return None


class DescentRule(UpdateRule):
    """Gradient descent, with or without mini-batches; also the flow of any optimizer whose state is not used."""

    unknown, refusal = ("momentum",), "The flow of SGD has no momentum: name the optimizer 'momentum'."


@dataclass(frozen=True)
class HeavyBallRule(UpdateRule):
    """SGD with momentum: a flow of second order."""

    averages = ("momentum",)
    known: ClassVar = {"momentum": "mu"}
    unknown = ("dampening", "nesterov")
    refusal = "The flow of momentum knows neither dampening nor Nesterov's form."
    mu: float = 0.9

    @property
    def slow(self) -> float:
        """1 - mu: the buffer sums gradients."""
        return 1 - self.mu

    def velocity(
        self, averages: tuple[Tensor, ...], g: Tensor, q: Tensor | None, step: Tensor | float, count: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Those of momentum, exact for any ``count``; see :meth:`UpdateRule.velocity`."""
        (b,) = averages
        kept, summed = self.mu**count, _powers(self.mu, count)
        d = (b * summed + g * (count - summed) / (1 - self.mu)) / count
        return d, ((g * (1 - kept) / (1 - self.mu) - (1 - kept) * b) / count,)


@dataclass(frozen=True)
class RMSpropRule(UpdateRule):
    """RMSprop; its eps is left out, since it is far below the roots to which it is added."""

    averages = ("second",)
    squares = True
    known: ClassVar = {"alpha": "alpha"}
    unknown, refusal = ("momentum", "centered"), "The flow of RMSprop knows neither momentum nor centring."
    alpha: float = 0.99

    def velocity(
        self, averages: tuple[Tensor, ...], g: Tensor, q: Tensor | None, step: Tensor | float, count: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Those of RMSprop, its root in the middle of the steps; see :meth:`UpdateRule.velocity`."""
        assert q is not None  # as squares asks
        (s,) = averages
        half = self.alpha ** ((count + 1) / 2)
        return g / _root(half * s + (1 - half) * q), ((1 - self.alpha**count) * (q - s) / count,)

    def unit(self, averages: tuple[Tensor, ...], step: Tensor) -> Tensor:
        """(series,) root of the mean square."""
        return averages[0].sqrt()


@dataclass(frozen=True)
class AdamRule(UpdateRule):
    """Adam and AdamW, with bias correction of the averages."""

    averages = ("momentum", "second")
    squares = True
    known: ClassVar = {"beta1": "beta1", "beta2": "beta2"}
    unknown, refusal = ("amsgrad",), "The flow of Adam does not know amsgrad."
    beta1: float = 0.9
    beta2: float = 0.999

    def velocity(
        self, averages: tuple[Tensor, ...], g: Tensor, q: Tensor | None, step: Tensor | float, count: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Those of Adam, root and bias in the middle of the steps; see :meth:`UpdateRule.velocity`."""
        assert q is not None  # as squares asks
        m, v = averages
        kept, middle = _powers(self.beta1, count) / count, (count + 1) / 2
        half = self.beta2**middle
        first = (kept * m + (1 - kept) * g) / (1 - self.beta1 ** (step + middle))
        second = (half * v + (1 - half) * q) / (1 - self.beta2 ** (step + middle))
        return first / _root(second), (
            (1 - self.beta1**count) * (g - m) / count,
            (1 - self.beta2**count) * (q - v) / count,
        )

    def unit(self, averages: tuple[Tensor, ...], step: Tensor) -> Tensor:
        """(series,) root of the second moment, its bias corrected."""
        return (averages[1] / (1 - self.beta2**step)).sqrt()


@dataclass(frozen=True)
class AdamWRule(AdamRule):
    """Adam with decoupled weight decay."""

    known: ClassVar = {**AdamRule.known, "weight_decay": "decay"}
    decay: float = 1e-2


RULES: dict[str, type[UpdateRule]] = {
    "SGD": DescentRule, "momentum": HeavyBallRule, "RMSprop": RMSpropRule, "Adam": AdamRule, "AdamW": AdamWRule,
}


def rule_of(meta: dict[str, Any]) -> UpdateRule:
    """The rule of recorded trajectories, by their ``meta``.

    Raises:
        InputError: The optimizer is unknown, or has an option that its flow does not know.
    """
    name = meta.get("optimizer")
    if name not in RULES:
        raise InputError(f"The optimizer-aware flow knows {', '.join(RULES)}, not {name!r}.")
    return RULES[name].of(meta.get("options") or {})


def _powers(base: float, count: float) -> float:
    """The sum base + base^2 + ... + base^count."""
    return base * (1 - base**count) / (1 - base)


def _root(square: Tensor) -> Tensor:
    return square.clamp_min(1e-12).sqrt()
