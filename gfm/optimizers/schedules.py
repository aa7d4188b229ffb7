"""Learning-rate schedules by name: functions of the step that are positive."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gfm.checks import number, whole
from gfm.errors import UnknownNameError
from gfm.optimizers.base import Schedule

__all__ = ["SCHEDULES", "Cosine", "Drop", "WarmUp", "named"]

#: The least learning rate of a schedule, as a share of its peak.
LEAST = 0.1


@dataclass(frozen=True)
class _Planned:
    """A learning rate with largest value ``peak``, planned for a run of ``steps`` steps."""

    peak: float
    steps: int

    def __post_init__(self) -> None:
        number("peak", self.peak, lambda lr: 0 < lr < math.inf, "a positive number")
        whole("steps", self.steps, 1)


@dataclass(frozen=True)
class WarmUp(_Planned):
    """Rises linearly from a tenth of ``peak`` to ``peak`` over the first fifth of ``steps``, then stays constant."""

    def __call__(self, t: float) -> float:
        """The learning rate at step ``t``."""
        return self.peak * (LEAST + (1 - LEAST) * min(1.0, 5 * t / self.steps))


@dataclass(frozen=True)
class Cosine(_Planned):
    """Falls from ``peak`` to a tenth of it along half a cosine over ``steps``.

    Example:
        >>> schedule = Cosine(1.0, 100)
        >>> [round(schedule(t), 3) for t in (0, 50, 100)]
        [1.0, 0.55, 0.1]
    """

    def __call__(self, t: float) -> float:
        """The learning rate at step ``t``."""
        share = (1 + math.cos(math.pi * min(1.0, t / self.steps))) / 2
        return self.peak * (LEAST + (1 - LEAST) * share)


@dataclass(frozen=True)
class Drop(_Planned):
    """Stays at ``peak`` for the first half of ``steps``, then at half of it.

    Example:
        >>> schedule = Drop(1.0, 100)
        >>> [schedule(t) for t in (0, 49, 50, 100)]
        [1.0, 1.0, 0.5, 0.5]
    """

    def __call__(self, t: float) -> float:
        """The learning rate at step ``t``."""
        return self.peak if 2 * t < self.steps else self.peak / 2


SCHEDULES: dict[str, Callable[[Any, int], Schedule] | None] = {
    "constant": None, "warmup": WarmUp, "cosine": Cosine, "drop": Drop,
}


def named(name: str, lr: float, steps: int) -> Schedule:
    """The learning rate of a run of ``steps`` steps with peak ``lr``: a number, or a function of the step.

    Raises:
        InputError: ``lr`` is not positive, or ``steps`` is below 1.
        UnknownNameError: The name is none of ``SCHEDULES``.
    """
    if not isinstance(name, str) or name not in SCHEDULES:
        raise UnknownNameError(f"Unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}.")
    peak, steps = number("lr", lr, lambda x: 0 < x < math.inf, "a positive number"), whole("steps", steps, 1)
    schedule = SCHEDULES[name]
    return peak if schedule is None else schedule(peak, steps)
