"""The learning rates of a schedule, step by step, from torch's own schedulers."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gfm.errors import InputError, said

__all__ = ["rates_of"]


def rates_of(
    schedule: Callable[[torch.optim.Optimizer], LRScheduler], make: Callable[..., torch.optim.Optimizer], steps: int
) -> list[float]:
    """The learning rate of each of ``steps`` steps, if the scheduler is stepped after every one.

    They are found with an optimizer that trains nothing, so that an unsuitable schedule is refused before any training.

    Args:
        schedule: makes a scheduler of an optimizer.
        make: makes the optimizer of a list of tensors.
        steps: number of steps.

    Raises:
        InputError: The schedule makes no scheduler, needs a metric or fewer steps, changes something else than the
            learning rate, or gives one that is negative or not finite.
    """
    if not callable(schedule):
        raise InputError("schedule must be a function that makes a torch.optim.lr_scheduler of the optimizer that it "
                         f"is given, not {type(schedule).__name__}.")
    optimizer = make([torch.zeros(1, requires_grad=True)])
    rates = []
    try:
        before = _options(optimizer)
        scheduler = schedule(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            raise InputError("ReduceLROnPlateau needs a metric, and every run would have its own: use a schedule that "
                             "depends on the step alone.")
        if not isinstance(scheduler, LRScheduler) or getattr(scheduler, "optimizer", None) is not optimizer:
            raise InputError("schedule must make a torch.optim.lr_scheduler of the optimizer that it is given; it made "
                             f"{type(scheduler).__name__}.")
        for step in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            changed = [name for name, value in _options(optimizer).items() if value != before.get(name, value)]
            if changed:
                raise InputError(f"The schedule changes {changed[0]!r} too, but only learning rates are recorded with "
                                 "the runs: use cycle_momentum=False, say.")
            optimizer.step()
            if step + 1 < steps:
                scheduler.step()
    except InputError:
        raise
    except Exception as error:  # from the caller's function, or from a scheduler made for fewer steps
        raise InputError(f"The schedule fails within {steps} steps: {said(error)}.") from error
    for step, rate in enumerate(rates):
        if not 0 <= rate < math.inf:
            raise InputError(f"The schedule's learning rate at step {step} is {rate}; it must be at least 0.")
    return rates


def _options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    skip = ("params", "lr", "initial_lr")
    return {name: value for name, value in optimizer.param_groups[0].items() if name not in skip}
