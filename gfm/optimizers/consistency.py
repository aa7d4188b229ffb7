"""Whether the methods of a rule fit together: its step, its preconditioner, and what the flows need.

A rule that overrides one method and inherits another that no longer fits would give wrong flows without a word. The
methods are therefore compared at the start of a run, on gradients drawn at random, in float64.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gfm.errors import GfmError, InputError
from gfm.optimizers.base import Optimizer, State, diagonal

__all__ = ["check_rule"]

#: Relative disagreement that is tolerated, and that of a response to many gradients.
_TOLERANCE, _SETTLED = 1e-3, 1e-2
#: Gradients of sizes that differ by these factors show whether a rule is linear in them.
_SCALES = (1.0, 1e-3, 1e3)
#: Number of weights on which a rule is tried first; one that fails there may need all of them.
_FEW = 10_000
#: Steps before a response counts, after which one that comes no closer to the right one is wrong, and of a last try.
_LEAST, _PATIENCE, _MOST = 8, 1024, 4096


def check_rule(rule: Optimizer, w: Tensor, *, flows: bool = True) -> None:
    """Check that a rule's methods agree at weights (p,); at the cost of about a hundred updates, without a gradient.

    Without flows, a step other than ``drift`` only gives a warning: the eigenvalues measured are those of the
    preconditioner that the rule states.

    Args:
        rule: the rule, with the layout of the weights if it needs one.
        w: the weights at the start.
        flows: whether the rule must give flows.

    Raises:
        InputError: Two methods contradict each other, one fails, changes its arguments or keeps a state of its own, the
            state cannot be stored, or the rule has no flow. The message says what was seen and what to define.
    """
    if len(w) > _FEW:
        try:
            return _Check(rule, w[:_FEW].detach().double()).all(flows)
        except InputError:
            pass
    _Check(rule, w.detach().double()).all(flows)


class _Check:
    def __init__(self, rule: Optimizer, w: Tensor):
        self.rule, self.name, self.w = rule, type(rule).__name__, w
        source = torch.Generator().manual_seed(0)
        draws = 2.0 * torch.rand(2, len(w), generator=source, dtype=w.dtype).to(w.device) - 1.0
        self.g, self.h = draws + 0.5 * draws.sign()  # sizes from 0.5 to 1.5

    def all(self, flows: bool) -> None:
        w = self.w
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            start = self.call("init", w)
            self.check_state(start, "init")
            before = self.call("update", start, self.g)
            self.check_state(before, "update", like=start)
            after = self.call("update", before, self.h)
            self.check_state(after, "update", like=start)
            differs = self.check_step(before, after)
            if differs and not flows:
                warnings.warn(f"{differs}, or the eigenvalues of P^-1 H are not those of its steps", stacklevel=3)
            if flows:
                self.check_preconditioner(after)
                if differs:
                    raise InputError(differs)
                self.check_linear(start)
                self.check_rates(before, after)
                self.check_memory(before)
                self.check_responses(start)

    # --- every rule ---------------------------------------------------------------------------

    def call(self, method: str, *arguments: Any) -> Any:
        """The value of a method, which must be the same twice and leave its arguments as they are."""
        given = [_numbers(argument) for argument in arguments]
        kept = [[value.clone() for value in values] for values in given]
        found = []
        with self.explained(method):
            for _ in range(2):
                torch.manual_seed(0)
                found.append(getattr(self.rule, method)(*arguments))
        if not all(map(_same, given, kept)):
            raise InputError(f"{self.name}.{method} changes its arguments in place; it must return new tensors")
        if not _same(*map(_numbers, found)):
            raise InputError(
                f"{self.name}.{method} gives two results for the same arguments; what it keeps belongs in the state"
            )
        return found[0]

    @contextmanager
    def explained(self, method: str) -> Iterator[None]:
        try:
            yield
        except GfmError:
            raise
        except Exception as failure:
            why = str(failure) or "it is not defined"
            raise InputError(f"{self.name}.{method} fails: {type(failure).__name__}: {why}") from failure

    def check_state(self, state: object, method: str, like: State | None = None) -> None:
        """A state can be stored, and moved to another time."""
        kind = type(state).__name__
        if not isinstance(state, State) or not is_dataclass(state):
            raise InputError(f"{self.name}.{method} must return a gfm.optimizers.State, but it returns a {kind}")
        if {f.name for f in fields(state)} != set(vars(state)):
            raise InputError(f"the state {kind} must be a dataclass with a field for everything that it holds")
        for name, value in vars(state).items():
            if not isinstance(value, (Tensor, int, float, type(None))) and not _tensors_only(value):
                raise InputError(
                    f"the state's field {name} must be a number, a tensor or a tuple of tensors, but it is a "
                    f"{type(value).__name__}"
                )
        if like is not None and type(state) is not type(like):
            raise InputError(f"{self.name}.update returns a {kind}, but init returns a {type(like).__name__}")

    def check_step(self, before: State, after: State) -> str:
        """``advance``, ``update`` and ``step`` are one rule; how ``step`` differs from ``drift``, in words or none."""
        w, h = self.w, self.h
        if after.t - before.t != 1.0:
            raise InputError(f"{self.name}.update must add 1 to the state's t, but it adds {after.t - before.t:g}")
        moved = self.call("step", w, after, h)
        if not isinstance(moved, Tensor) or moved.shape != w.shape:
            raise InputError(f"{self.name}.step must return weights {tuple(w.shape)}, but it returns {_shape(moved)}")
        at_once, state = self.call("advance", w, before, h)
        if not (_close(at_once - w, moved - w) and _same(_numbers(state), _numbers(after))):
            raise InputError(
                f"{self.name}.advance moves the weights by {_size(at_once - w)}, update and step by "
                f"{_size(moved - w)}: define update and step, and leave advance as it is"
            )
        with self.explained("preconditioner"):
            drift = self.rule.drift(w, after, self.call("direction", after, h))
        if _close(moved - w, drift):
            return ""
        return (
            f"{self.name}.step moves the weights by {_size(moved - w)}, but -P^-1 direction - decay w is "
            f"{_size(drift)}: define preconditioner, direction or decay to match it"
        )

    # --- rules with flows ---------------------------------------------------------------------

    def check_preconditioner(self, state: State) -> None:
        """P is positive, and a number or diagonal."""
        P = diagonal(self.call("preconditioner", state))
        values = torch.as_tensor(P)
        if (values.ndim and values.shape != self.w.shape) or not bool((values > 0).all()):
            raise InputError(
                f"{self.name}.preconditioner must be positive, a number or of shape {tuple(self.w.shape)}, but it has "
                f"shape {tuple(values.shape)} and least value {float(values.min()):g}"
            )
        if state.nu is not None and not state.nu.ndim and torch.as_tensor(self.rule.edge(state)).ndim:
            raise InputError(
                f"{self.name} has one second moment for all weights but a step size or decay for each, for which no "
                "flow is derived here; run the processes discrete, midpoint or minibatch"
            )

    def check_linear(self, start: State) -> None:
        """A gradient that is larger by a factor gives a step that is larger by it, at fixed P."""
        directions = []
        for scale in _SCALES:
            state = self.rule.update(self.rule.update(start, scale * self.g), scale * self.h)
            directions.append(self.rule.direction(state, scale * self.h) / scale)
            drift = self.rule.drift(self.w, state, scale * directions[-1])
            moved = self.rule.step(self.w, state, scale * self.h) - self.w
            if not _close(moved, drift):
                raise InputError(
                    f"{self.name}.step moves the weights by {_size(moved)} under gradients of size "
                    f"{_size(scale * self.h)}, but -P^-1 direction - decay w is {_size(drift)}: define preconditioner, "
                    "direction or decay to match it"
                )
            if not _close(directions[-1], directions[0]):
                factor = scale * _size(directions[-1]) / _size(directions[0])
                raise InputError(
                    f"{self.name}.direction is not linear in the gradient: gradients {scale:g} times as large give a "
                    f"direction {factor:g} times as large; for flows, what depends on the gradient's size belongs in "
                    "preconditioner, with rates, memory and observed"
                )

    def check_rates(self, before: State, after: State) -> None:
        """The state's rates are its changes in a step, and P follows them."""
        rates = self.call("rates", after, self.h)
        if not isinstance(rates, State) or rates.t != 1.0:
            raise InputError(f"{self.name}.rates must return a State with t = 1")
        for name, value in vars(after).items():
            rate = getattr(rates, name, None)
            if rate is not None and not isinstance(value, tuple):
                change = value - getattr(before, name)
                if not _close(rate, change):
                    raise InputError(
                        f"{self.name}.rates moves {name} by {_size(rate)} in a unit of time, but update moves it by "
                        f"{_size(change)} in a step: define rates to match update"
                    )
            elif isinstance(value, Tensor) and self.depends_on(after, name):
                raise InputError(
                    f"{self.name}.preconditioner depends on the state's {name}, which rates leaves out: define rates, "
                    "preconditioner_rate and memory to match update"
                )
            elif isinstance(value, tuple):
                raise InputError(f"the state's field {name} is a tuple, which no flow can move: use one tensor")
        h = 1e-3
        ahead, behind = (
            torch.as_tensor(diagonal(self.rule.preconditioner(after.moved(rates, dt))), dtype=self.w.dtype).log()
            for dt in (h, -h)
        )
        expected = diagonal(self.rule.preconditioner(after)) * (ahead - behind) / (2 * h)
        found = torch.as_tensor(self.call("preconditioner_rate", after, rates), dtype=self.w.dtype)
        if not _close(found.expand_as(expected), expected, least=1e-6 * diagonal(self.rule.preconditioner(after))):
            raise InputError(
                f"{self.name}.preconditioner_rate is {_size(found)}, but the preconditioner changes by "
                f"{_size(expected)} in a unit of time along rates: define preconditioner_rate to match it"
            )

    def depends_on(self, state: State, name: str) -> bool:
        """Whether P depends on a field of the state."""
        other = replace(state, **{name: 1.5 * getattr(state, name) + 0.1})
        P, Q = (diagonal(self.rule.preconditioner(s)) for s in (state, other))
        return not _close(P, Q)

    def check_memory(self, before: State) -> None:
        """How P follows squared gradients: through nu alone, at the rate and with the sensitivity stated."""
        rule, g, h = self.rule, self.g, 2 * self.h
        small, large = rule.update(before, g), rule.update(before, h)
        P, Q = (diagonal(rule.preconditioner(state)) for state in (small, large))
        memory = self.call("memory", small)
        if memory is None:
            if not _close(P, Q):
                raise InputError(
                    f"{self.name}.preconditioner goes from {_size(P)} to {_size(Q)} with another gradient, but memory "
                    "says that it depends on none: define rates, preconditioner_rate, memory and observed, or no flow"
                )
            return
        if small.nu is None or large.nu is None:
            raise InputError(f"{self.name}.memory is defined, but the state has no nu: average squared gradients there")
        if not _close(diagonal(rule.preconditioner(replace(small, nu=large.nu))), Q):
            raise InputError(
                f"{self.name}.preconditioner follows the gradient through more of the state than nu, which memory "
                "cannot describe: let it depend on nu alone"
            )
        with self.explained("observed"):
            squares = {
                key: rule.observed(a[None], b[None])[0]
                for key, a, b in (("gg", g, g), ("hh", h, h), ("gh", g, h), ("both", g + h, g + h))
            }
        if not _close(squares["both"], squares["gg"] + 2 * squares["gh"] + squares["hh"]):
            raise InputError(f"{self.name}.observed must be a symmetric product, linear in both gradients; it is not")
        nu = large.nu - small.nu
        expected = memory.rate / (1.0 + memory.rate) * (squares["hh"] - squares["gg"]).reshape(nu.shape)
        if not _close(expected, nu):
            raise InputError(
                f"{self.name}.update raises nu by {_size(nu)} with a larger gradient, but memory.rate / (1 + "
                f"memory.rate) times the change of observed is {_size(expected)}: define memory and observed to match"
            )
        step = 1e-4 * small.nu * (1.0 + 0.5 * torch.cos(torch.arange(nu.numel()).to(nu)).reshape(nu.shape))
        ahead, behind = (diagonal(rule.preconditioner(replace(small, nu=small.nu + s * step))) for s in (1, -1))
        difference, stated = (ahead - behind) / 2, memory.sensitivity * step
        if not _close(stated, difference, least=1e-8 * P):
            raise InputError(
                f"{self.name}.memory.sensitivity times a small change of nu is {_size(stated)}, but the preconditioner "
                f"changes by {_size(difference)}: define memory to match preconditioner"
            )

    def check_responses(self, start: State) -> None:
        """The direction is the gradient if that is constant, and 2 / threshold of it if it changes sign every step."""
        c = self.rule.threshold
        if not (isinstance(c, (int, float)) and 0 < c < math.inf):
            raise InputError(f"{self.name}.threshold must be a positive number, but it is {c!r}")
        complaints: tuple[tuple[float, float, Callable[[float], str]], ...] = (
            (1.0, 1.0, lambda r: (
                f"{self.name}.direction is {r:.4g} times a gradient that stays the same, where a flow needs 1: "
                "divide direction and preconditioner by that factor"
            )),
            (-1.0, 2.0 / c, lambda r: (
                f"{self.name}.threshold is {c:.4g}, but a gradient that changes sign in every step gives {r:.4g} of it "
                f"as the direction, with which a rule oscillates beyond {2.0 / r if r else math.inf:.4g}: define "
                "threshold to match direction"
            )),
        )
        for sign, goal, complaint in complaints:
            state, previous = start, math.inf
            for step in range(1, _MOST + 1):
                gradient = self.g if sign > 0 or step % 2 else -self.g
                state = self.rule.update(state, gradient)
                if step & (step - 1):
                    continue  # compared at powers of two
                response = self.rule.direction(state, gradient) / gradient
                error = float((response - goal).abs().max()) / goal
                if step >= _LEAST and error < _SETTLED:
                    break
                if step >= _PATIENCE and not error < 0.99 * previous:
                    raise InputError(complaint(float(response.mean())))
                previous = error


def _numbers(value: object) -> list[Tensor]:
    """The tensors that a method's argument or result holds."""
    if isinstance(value, State):
        return _numbers(tuple(vars(value).values()))
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in _numbers(part)]
    if isinstance(value, (int, float)):
        return [torch.tensor(float(value))]
    return [value] if isinstance(value, Tensor) else []


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all())
                                    for x, y in zip(a, b, strict=True))


def _tensors_only(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, Tensor) or _tensors_only(part) for part in value)


def _close(found: Tensor | float, expected: Tensor | float, least: Tensor | float = 0.0) -> bool:
    """Whether values agree coordinate by coordinate, to a share of each, a smaller one of the largest, or ``least``."""
    found, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (found, expected))
    if found.shape != expected.shape:
        return False
    allowed = _TOLERANCE * (expected.abs() + _TOLERANCE * expected.abs().max()) + least
    return bool(((found - expected).abs() <= allowed).all())


def _size(value: Tensor | float) -> float:
    """The root mean square, rounded for a message."""
    return float(f"{float(torch.as_tensor(value).double().square().mean().sqrt()):.4g}")


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
