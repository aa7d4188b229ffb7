"""The methods of a rule, called on gradients drawn at random and compared with each other."""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.optimizers.base import Optimizer, State
from gfm.problem.supported import explained
from gfm.randomness import seeding

__all__ = ["Methods", "close", "same", "size"]

#: Tolerated relative difference.
_TOLERANCE = 1e-3


class Methods:
    """A rule at weights w (p,) with two gradients g and h (p,), of entries from 0.5 to 1.5 in size."""

    def __init__(self, rule: Optimizer, w: Tensor):
        self.rule, self.name, self.w = rule, type(rule).__name__, w
        source = torch.Generator().manual_seed(0)
        draws = 2.0 * torch.rand(2, len(w), generator=source, dtype=w.dtype).to(w.device) - 1.0
        self.g, self.h = draws + 0.5 * draws.sign()

    def call(self, method: str, *arguments: Any) -> Any:
        """The value of a method, after checking that it is the same twice and that the arguments are unchanged.

        Raises:
            InputError: The two values differ, an argument was changed, or the method fails.
        """
        given = [numbers(argument) for argument in arguments]
        kept = [[value.clone() for value in values] for values in given]
        found = []
        with explained(f"{self.name}.{method} fails"):
            for _ in range(2):
                with seeding(0, self.w.device):
                    found.append(getattr(self.rule, method)(*arguments))
        if not all(map(same, given, kept)):
            raise InputError(f"{self.name}.{method} changes its arguments in place; it must return new tensors.")
        if not same(*map(numbers, found)):
            raise InputError(
                f"{self.name}.{method} gives two results for the same arguments; what it keeps belongs in the state."
            )
        return found[0]

    def check_state(self, state: object, method: str, like: State | None = None) -> None:
        """Check that a state can be stored, and moved to another time.

        Raises:
            InputError: The state cannot be stored or moved.
        """
        kind = type(state).__name__
        if not isinstance(state, State) or not is_dataclass(state):
            raise InputError(f"{self.name}.{method} must return a gfm.optimizers.State, but it returns a {kind}.")
        if {f.name for f in fields(state)} != set(vars(state)):
            raise InputError(f"The state {kind} must be a dataclass with a field for everything that it holds.")
        for name, value in vars(state).items():
            if not isinstance(value, (Tensor, int, float, type(None))) and not _tensors_only(value):
                raise InputError(
                    f"The state's field {name} must be a number, a tensor or a tuple of tensors, but it is a "
                    f"{type(value).__name__}."
                )
        if like is not None and type(state) is not type(like):
            raise InputError(f"{self.name}.update returns a {kind}, but init returns a {type(like).__name__}.")

    def check_step(self, before: State, after: State) -> str:
        """Check that ``advance`` is ``update`` and ``step``; returns how ``step`` differs from ``drift``, or ''.

        Raises:
            InputError: ``advance`` is something else, or a method returns an unsuitable value.
        """
        w, h = self.w, self.h
        if after.t - before.t != 1.0:
            raise InputError(f"{self.name}.update must add 1 to the state's t, but it adds {after.t - before.t:g}.")
        moved = self.call("step", w, after, h)
        if not isinstance(moved, Tensor) or moved.shape != w.shape:
            raise InputError(f"{self.name}.step must return weights {tuple(w.shape)}, but it returns {_shape(moved)}.")
        at_once, state = self.call("advance", w, before, h)
        if not (close(at_once - w, moved - w) and same(numbers(state), numbers(after))):
            raise InputError(
                f"{self.name}.advance moves the weights by {size(at_once - w)}, update and step by "
                f"{size(moved - w)}: define update and step, and leave advance as it is."
            )
        with explained(f"{self.name}.preconditioner fails"):
            drift = self.rule.drift(w, after, self.call("direction", after, h))
        if close(moved - w, drift):
            return ""
        return (
            f"{self.name}.step moves the weights by {size(moved - w)}, but -P^-1 direction - decay w is "
            f"{size(drift)}: define preconditioner, filter or decay to match it"
        )


def numbers(value: object) -> list[Tensor]:
    """The tensors, of any shape, in a method's argument or result."""
    if isinstance(value, State):
        return numbers(tuple(vars(value).values()))
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in numbers(part)]
    if isinstance(value, (int, float)):
        return [torch.tensor(float(value))]
    return [value] if isinstance(value, Tensor) else []


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether tensors are equal one by one, in shape and values (NaN equals NaN)."""
    return len(a) == len(b) and all(x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all())
                                    for x, y in zip(a, b, strict=True))


def _tensors_only(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(part, Tensor) or _tensors_only(part) for part in value)


def close(found: Tensor | float, expected: Tensor | float, least: Tensor | float = 0.0) -> bool:
    """Whether values of one shape agree: within a share of each entry, a smaller one of the largest, or ``least``."""
    found, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (found, expected))
    if found.shape != expected.shape:
        return False
    allowed = _TOLERANCE * (expected.abs() + _TOLERANCE * expected.abs().max()) + least
    return bool(((found - expected).abs() <= allowed).all())


def size(value: Tensor | float) -> float:
    """The root mean square of a number or tensor of any shape, rounded for a message."""
    return float(f"{float(torch.as_tensor(value).double().square().mean().sqrt()):.4g}")


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
