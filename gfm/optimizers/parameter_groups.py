"""Learning rates and decoupled weight decay by parameter group."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from gfm.checks import number
from gfm.errors import InputError
from gfm.linalg.preconditioner import Preconditioner
from gfm.optimizers.base import Memory, Optimizer, State
from gfm.optimizers.filters import Filter
from gfm.problem.flat import Flat

__all__ = ["Group", "ParameterGroups"]


@dataclass(frozen=True)
class Group:
    """The options of a parameter group.

    Args:
        lr_factor: multiplies the rule's learning rate, positive; 1 leaves it as it is.
        weight_decay: decoupled, as in AdamW: a step also takes lr lr_factor weight_decay w off the weights w, past
            momentum and preconditioner; at least 0. A penalty in the loss is an option of ``gfm.Problem`` instead.

    Raises:
        InputError: A value is out of range.
    """

    lr_factor: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        factor = number("lr_factor", self.lr_factor, lambda x: 0 < x < math.inf, "a positive number")
        decay = number("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, "a number of at least 0")
        object.__setattr__(self, "lr_factor", factor)
        object.__setattr__(self, "weight_decay", decay)


class ParameterGroups(Optimizer):
    """A rule with its own learning rate and weight decay in some groups of parameters.

    Args:
        rule: the rule that all weights follow.
        groups: patterns of parameter names, as in file names (``"*.bias"``, ``"0.*"``, ``"*"``), and the options of the
            parameters that match; others keep the rule's learning rate and do not decay.

    Raises:
        InputError: ``rule`` is no rule, or ``groups`` do not map patterns to ``Group``.

    Example:
        >>> from gfm.optimizers import Adam
        >>> adamw = ParameterGroups(Adam(lr=1e-3), {"*.weight": Group(weight_decay=0.01), "*.bias": Group(lr_factor=2)})
        >>> adamw.describe()["groups"]["*.bias"]
        {'lr_factor': 2.0, 'weight_decay': 0.0}
    """

    name: ClassVar[str] = "parameter_groups"

    def __init__(self, rule: Optimizer, groups: Mapping[str, Group]):
        if not isinstance(rule, Optimizer) or isinstance(rule, ParameterGroups):
            raise InputError(f"rule must be a rule without groups, but it is a {type(rule).__name__}.")
        if not isinstance(groups, Mapping) or not all(
            isinstance(pattern, str) and isinstance(group, Group) for pattern, group in groups.items()
        ):
            raise InputError(f"groups must map patterns of names to gfm.optimizers.Group, but they are {groups!r}.")
        self.rule, self.groups, self.lr = rule, dict(groups), rule.lr
        self._factor: Tensor | float | None = None
        self._decay: Tensor | float = 0.0

    def with_layout(self, flat: Flat) -> Self:
        """The rule with its groups found among the parameters.

        Raises:
            InputError: A pattern matches no parameter, or a parameter matches two patterns.
        """
        found = {name: [p for p in self.groups if fnmatchcase(name, p)] for name in flat.names}
        for name, patterns in found.items():
            if len(patterns) > 1:
                raise InputError(f"The parameter {name} is in two groups, {patterns[0]!r} and {patterns[1]!r}.")
        for pattern in self.groups:
            if not any(pattern in patterns for patterns in found.values()):
                raise InputError(f"The group {pattern!r} matches none of the parameters {', '.join(flat.names)}.")
        chosen = [self.groups[patterns[0]] if patterns else Group() for patterns in found.values()]
        bound = copy.copy(self)
        bound.rule = self.rule.with_layout(flat)
        bound._factor = _by_weight([group.lr_factor for group in chosen], flat)
        bound._decay = _by_weight([group.lr_factor * group.weight_decay for group in chosen], flat)
        return bound

    def describe(self) -> dict[str, Any]:
        """The rule's options, and the groups."""
        return self.rule.describe() | {"groups": {pattern: asdict(group) for pattern, group in self.groups.items()}}

    @property
    def factor(self) -> Tensor | float:
        """What multiplies the learning rate, a number or (p,).

        Raises:
            InputError: The layout of the weights is not known yet.
        """
        if self._factor is None:
            raise InputError("Parameter groups need the layout of the weights: use rule.with_layout(problem.flat).")
        return self._factor

    def decay(self, state: State) -> Tensor | float:
        """The groups' decay lr * lr_factor * weight_decay plus the rule's own, a number or (p,)."""
        own, groups = self.rule.decay(state), self.lr_at(state.t) * self._decay
        return groups + self.factor * own if isinstance(own, Tensor) or own else groups

    def preconditioner(self, state: State) -> Preconditioner:
        """P of the rule, divided by the groups' factors of the learning rate."""
        return (1.0 / self.factor) * self.rule.preconditioner(state)

    def preconditioner_rate(self, state: State, rates: State) -> Tensor | float:
        """The rule's dP/dt, divided by the factors, of P's shape."""
        return self.rule.preconditioner_rate(state, rates) / self.factor

    def memory(self, state: State) -> Memory | None:
        """That of the rule, with its sensitivity divided by the factors."""
        memory = self.rule.memory(state)
        return memory and Memory(memory.rate, memory.sensitivity / self.factor)

    @property
    def filter(self) -> Filter:
        """The filter of the rule."""
        return self.rule.filter

    def init(self, w: Tensor) -> State:
        """The state of the rule before the first step, at weights (p,)."""
        return self.rule.init(w)

    def update(self, state: State, g: Tensor) -> State:
        """The state of the rule after a gradient (p,)."""
        return self.rule.update(state, g)

    def direction(self, state: State, g: Tensor) -> Tensor:
        """The direction (p,) of the rule."""
        return self.rule.direction(state, g)

    def rates(self, state: State, g: Tensor) -> State:
        """The rates of the rule's state per step."""
        return self.rule.rates(state, g)

    def observed(self, a: Tensor, b: Tensor) -> Tensor:
        """The product of gradients that the rule's nu averages: rows a, b (m, p) to (m, p) or (m, 1)."""
        return self.rule.observed(a, b)


def _by_weight(values: list[float], flat: Flat) -> Tensor | float:
    """One value for each parameter tensor as (p,), or as a number if all are equal."""
    if len(set(values)) == 1:
        return values[0]
    each = torch.tensor(values, dtype=flat.dtype, device=flat.device)
    return each.repeat_interleave(torch.tensor(flat.sizes, device=flat.device))
