"""Forecasts in a training loop: look ahead from time to time, and jump if that lowers the loss."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gfm.checks import MOST, number, whole
from gfm.errors import InputError
from gfm.forecasting.base import Forecaster
from gfm.problem.flat import trainable
from gfm.trajectories import Layout, Trajectories
from gfm.trajectories.recent import Recent
from gfm.untouched import untouched, value_of

__all__ = ["Nowcaster", "Rule", "merged"]

Rule = Callable[[Trajectories], np.ndarray]
"""A function from a window (one run with the observed states) to the weights to try, (candidates, p)."""

MOST_WAITING = 8
"""The largest factor on the waiting time between two looks, after looks without a jump."""


def merged(along: Sequence[float] = (0.0, 1.0, 2.0, 4.0)) -> Rule:
    """The window's mean, and points beyond it in the direction from the mean of its first half to that of its second.

    Nothing is learned: with the gate this is a line search on the loss along the window's mean displacement.

    Args:
        along: multiples of that displacement that are added to the mean.

    Raises:
        InputError: ``along`` is empty, or holds something else than numbers.
    """
    if not isinstance(along, (Sequence, np.ndarray)) or isinstance(along, (str, bytes)) or not len(along):
        raise InputError(f"along must be a sequence of numbers, such as (0.0, 1.0), but it is {along!r}.")
    shares = np.array([number("Each of along", share, math.isfinite, "a finite number") for share in along])[:, None]

    def rule(window: Trajectories) -> np.ndarray:
        states = window.weights[0].astype(np.float64)
        half = len(states) // 2
        return states.mean(0) + shares * (states[-half:].mean(0) - states[:half].mean(0))

    return rule


class Nowcaster:
    """Proposes weights further along the path of a training run, and jumps there if they have a lower loss.

    It is called once after every step of the optimizer::

        nowcaster = gfm.Nowcaster(optimizer, model)
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
            nowcaster.step(lambda: criterion(model(x), y))

    Every ``every`` steps it records the weights and the optimizer's averages. As soon as ``seen`` + 1 states are
    recorded it *looks*: the rule proposes weights, the loss is evaluated at the present weights and at each
    candidate, and the run continues from the best of them. So a jump never raises the loss of these examples (the
    rest of the run may still take longer than without it), and a look costs (candidates + 1) forward passes. After
    a jump a new window begins. After a look without a jump the next look waits twice as long as the last one, up to
    eight times the usual period.

    On a few noisy examples a lower loss may be luck, so evaluate the loss on more than a small batch. Much is gained at
    small learning rates, but hardly anything at the best one or after the rate has been lowered.

    The optimizer's state and a schedule of the learning rate are not changed: a jump is no step, and there is no look
    while the rate is zero. Evaluating the loss may change buffers, gradients and training mode of the model, and the
    global random states; these are restored. Only weights that the optimizer trains are moved. Make a new nowcaster
    when other weights are loaded.

    Args:
        optimizer: the one that trains ``model``, of any kind; its state is recorded for those of
            ``gfm.trajectories.OPTIMIZERS``.
        model: the module; the weights are its trainable parameters.
        rule: a forecaster fitted to runs of this kind, or a function from a window (:class:`gfm.Trajectories` with one
            run) to (candidates, p) weights. By default :func:`merged`, which learns nothing.
        seen: number of recorded states after the first one of a window; by default as in the forecaster's fit, or 8.
        every: optimizer steps between recorded states; as in the runs to which a forecaster was fitted.
        ahead: for a forecaster, the numbers of recorded states ahead to try; by default the farthest of its fit.
        period: least number of steps between two looks; by default ``every``.
        gate: whether a jump must lower the loss. Without a gate the last candidate is always taken; use this only with
            rules that were made for it, such as a flow tuned on the loss of its own jumps.

    Attributes:
        looks, jumps, evaluations: numbers of looks, of jumps, and of losses evaluated, so far.

    Raises:
        InputError: A number is out of range, the optimizer trains none of the model's weights or maximises, the rule is
            neither a forecaster nor a function, or the forecaster does not fit ``seen``, ``every``, ``ahead`` or the
            model.
        GfmError: The forecaster is not fitted.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, rule: Forecaster | Rule | None = None, *,
        seen: int | None = None, every: int = 4, ahead: Sequence[int] | None = None, period: int | None = None,
        gate: bool = True,
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer) or not isinstance(model, nn.Module):
            raise InputError("A Nowcaster takes the optimizer and then the module: gfm.Nowcaster(optimizer, model).")
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise InputError("A Nowcaster works in one process: copies of a model would jump to different weights.")
        self.optimizer, self.model, self.layout = optimizer, model, Layout.of(model)
        self.parameters = [parameter for _, parameter in trainable(model)]
        if not any(self._moves()):
            raise InputError("The optimizer trains none of the model's weights.")
        if any(group.get("maximize") for group in optimizer.param_groups):
            raise InputError("A Nowcaster lowers a loss, but the optimizer maximises: let it minimise the negative.")
        if isinstance(rule, type) or not (rule is None or isinstance(rule, Forecaster) or callable(rule)):
            raise InputError(f"The rule must be a fitted forecaster or a function of a window; got {rule!r}.")
        if not isinstance(gate, bool):
            raise InputError(f"gate must be True or False; got {gate!r}.")
        self.every = whole("every", every, 1)
        self.period = whole("period", period, 1) if period is not None else self.every
        self.forecaster = rule if isinstance(rule, Forecaster) else None
        self.rule = merged() if rule is None or isinstance(rule, Forecaster) else rule
        self.seen = self._seen(seen)
        self.ahead = self._ahead(ahead)
        self.gate = gate
        self.recent = Recent(optimizer, model, self.seen, self.every)
        self.steps = self.looks = self.jumps = self.evaluations = 0
        self.rejected, self.next_look = 0, 0
        self.recent.record(0)

    # -- the loop --------------------------------------------------------------------------------
    def step(self, loss: Callable[[], Tensor | float] | None = None) -> bool:
        """To be called after a step of the optimizer; returns whether the weights jumped.

        Args:
            loss: the training loss at the model's present weights, a scalar, on the same examples whenever it is called
                within this step; it may compute gradients. The gate needs it. It is called only if there is a look, and
                then several times; its effects outside the model are not undone.

        Raises:
            InputError: A look needs the loss, the loss is no scalar, the rule's weights do not fit the model, or the
                model's parameters were replaced.
        """
        if loss is not None and not callable(loss):
            raise InputError("step takes a function that evaluates the loss: step(lambda: criterion(model(x), y)).")
        self.steps += 1
        if self.steps % self.every == 0:
            self.recent.record(self.steps)
        if self.steps < self.next_look or self.steps % self.every or not self.recent.full:
            return False
        if all(float(group["lr"]) == 0 for group in self.optimizer.param_groups):
            return False
        held = {id(parameter) for parameter in self.model.parameters()}
        if not all(id(parameter) in held for parameter in self.parameters):
            raise InputError("The model has other parameters than before: make a new Nowcaster for them.")
        candidates = self._candidates()
        self.looks += 1
        chosen = self._best(candidates, loss) if self.gate else candidates[-1] if len(candidates) else None
        if chosen is None:
            self.rejected += 1
            self.next_look = self.steps + self.period * min(2**self.rejected, MOST_WAITING)
            return False
        self._put(chosen)
        self.jumps += 1
        self.rejected, self.next_look = 0, self.steps + self.period
        self.recent.restart(self.steps)
        return True

    def window(self) -> Trajectories:
        """The last ``seen`` + 1 recorded states as one run, with the optimizer's averages and learning rate.

        Raises:
            InputError: Fewer states were recorded since the start or the last jump.
        """
        return self.recent.window()

    # -- kept between sessions -------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue: the recorded states and the counters, as tensors and numbers."""
        numbers = {name: getattr(self, name) for name in (*_COUNTERS, *_OPTIONS)}
        return {"recorded": self.recent.state_dict(), **numbers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict` of the same model, optimizer and options.

        Raises:
            InputError: It is of another model or optimizer, or is no such state.
        """
        try:
            recorded = state["recorded"]
            counters = {name: int(state[name]) for name in _COUNTERS}
            options = {name: int(state[name]) for name in _OPTIONS}
        except (LookupError, TypeError, ValueError, RuntimeError, OverflowError):
            raise InputError("This is not the state of a Nowcaster.") from None
        for name, value in counters.items():
            whole(f"{name} of the state", value, 0)
        own = {name: getattr(self, name) for name in _OPTIONS}
        if options != own:
            raise InputError(f"This state was saved with {options}; this Nowcaster has {own}.")
        self.recent.load_state_dict(recorded)
        for name, value in counters.items():
            setattr(self, name, value)

    # -- inside ----------------------------------------------------------------------------------
    def _seen(self, seen: int | None) -> int:
        if self.forecaster is None:
            return 8 if seen is None else whole("seen", seen, 1, MOST)
        _ = self.forecaster.fitted
        if not self.forecaster.coordinatewise and self.forecaster.parameters != sum(self.layout.sizes):
            raise InputError(f"The forecaster was fitted to {self.forecaster.parameters} weights; the model has "
                             f"{sum(self.layout.sizes)}.")
        if seen not in (None, self.forecaster.n):
            raise InputError(f"The forecaster was fitted to windows of {self.forecaster.n} states after the first, not "
                             f"{seen}.")
        if self.forecaster.spacing != (self.every,):
            spacing = " or ".join(map(str, self.forecaster.spacing))
            raise InputError(f"The forecaster was fitted to states {spacing} steps apart, and every is {self.every}.")
        return self.forecaster.n

    def _ahead(self, ahead: Sequence[int] | None) -> tuple[int, ...]:
        if self.forecaster is None:
            if ahead is not None:
                raise InputError("'ahead' belongs to a forecaster; a rule says itself what is to be tried.")
            return ()
        if ahead is not None and (not isinstance(ahead, Sequence) or not ahead):
            raise InputError(f"ahead must be a sequence of numbers of states, such as (4, 8); got {ahead!r}.")
        wanted = tuple(whole("ahead", states, 1) for states in (ahead or (self.forecaster.horizon,)))
        if self.forecaster.bounded and max(wanted) > self.forecaster.horizon:
            raise InputError(f"The forecaster was fitted for {self.forecaster.horizon} states ahead, not "
                             f"{max(wanted)}.")
        return wanted

    def _candidates(self) -> np.ndarray:
        window, p = self.window(), sum(self.layout.sizes)
        if self.forecaster is None:
            found = np.asarray(self.rule(window))
        else:
            found = self.forecaster.forecast(window, max(self.ahead))[0][np.array(self.ahead) - 1]
        if found.ndim != 2 or found.shape[1] != p or len(found) == 0 or found.dtype.kind not in "fiu":
            raise InputError(f"The rule must give (candidates, {p}) real weights, not {found.dtype} of {found.shape}.")
        largest = torch.finfo(self.parameters[0].dtype).max
        return found[(np.abs(found) <= largest).all(axis=1)]  # this also drops NaN

    def _best(self, candidates: np.ndarray, loss: Callable[[], Tensor | float] | None) -> np.ndarray | None:
        if loss is None:
            raise InputError("The gate needs the loss: nowcaster.step(lambda: criterion(model(x), y)).")
        with untouched(self.model):
            best, chosen = self._evaluate(loss), None
            for weights in candidates:
                self._put(weights)
                value = self._evaluate(loss)
                if value < best:
                    best, chosen = value, weights
        return chosen

    def _evaluate(self, loss: Callable[[], Tensor | float]) -> float:
        self.evaluations += 1
        return value_of(loss, self.parameters[0].device)

    @torch.no_grad()
    def _put(self, weights: np.ndarray) -> None:
        parts = torch.from_numpy(np.ascontiguousarray(weights)).split(self.layout.sizes)
        for parameter, part, moves in zip(self.parameters, parts, self._moves(), strict=True):
            if moves:
                parameter.copy_(part.view(parameter.shape))
        torch.clear_autocast_cache()  # otherwise autocast would still use the old weights

    def _moves(self) -> list[bool]:
        """Which parameters the optimizer trains at present."""
        own = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        return [id(parameter) in own and parameter.requires_grad for parameter in self.parameters]


_OPTIONS = ("every", "seen")
_COUNTERS = ("steps", "looks", "jumps", "evaluations", "rejected", "next_look")

