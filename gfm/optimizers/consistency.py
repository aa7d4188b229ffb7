"""Whether the methods of a rule fit together: its step, its preconditioner, and what the flows need.

A rule that overrides one method and inherits another that no longer fits would silently give wrong flows. The methods
are therefore compared at the start of a run, on random gradients, in float64.
"""

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.optimizers.base import Optimizer, State, diagonal
from gfm.optimizers.methods import Methods, close, size
from gfm.problem.supported import explained

__all__ = ["check_rule"]

#: Gradients of sizes that differ by these factors show whether a rule is linear in them.
_SCALES = (1.0, 1e-3, 1e3)
#: Number of weights on which a rule is tried first; a rule that fails there may need all of them.
_FEW = 10_000
#: A step at which no bias correction is left.
_LATE = 1e9


def check_rule(rule: Optimizer, w: Tensor, *, flows: bool = True) -> None:
    """Check that a rule's methods agree at weights (p,); this costs about twenty updates and no gradient.

    Without flows, a step that differs from ``drift`` only gives a warning: the eigenvalues measured are then those of
    the preconditioner that the rule defines.

    Args:
        rule: the rule, with the layout of the weights if it needs one.
        w: the weights at the start.
        flows: whether the rule must give flows.

    Raises:
        InputError: Two methods contradict each other, one fails, changes its arguments or keeps a state of its own, the
            state cannot be stored, or the rule has no flow. The message says what was found and what to define.
    """
    if len(w) > _FEW:
        try:
            return _Check(rule, w[:_FEW].detach().double()).all(flows)
        except InputError:
            pass
    _Check(rule, w.detach().double()).all(flows)


class _Check(Methods):
    """The comparisons in their order, and those that only flows need."""

    def all(self, flows: bool) -> None:
        """Make all comparisons; those of flows only if ``flows`` is set."""
        w = self.w
        with torch.no_grad():
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
                    raise InputError(f"{differs}.")
                self.check_filter(start)
                self.check_rates(before, after)
                self.check_memory(before)

    def check_preconditioner(self, state: State) -> None:
        """P is positive, and a number or diagonal."""
        P = diagonal(self.call("preconditioner", state))
        values = torch.as_tensor(P)
        if (values.ndim and values.shape != self.w.shape) or not bool((values > 0).all()):
            raise InputError(
                f"{self.name}.preconditioner must be positive, a number or of shape {tuple(self.w.shape)}, but it has "
                f"shape {tuple(values.shape)} and least value {float(values.min()):g}."
            )
        if state.nu is not None and not state.nu.ndim and torch.as_tensor(self.rule.edge(state)).ndim:
            raise InputError(
                f"{self.name} has one second moment for all weights but a step size or decay for each, for which no "
                "flow is derived here; run the processes discrete, midpoint or minibatch."
            )

    def check_filter(self, start: State) -> None:
        """The direction is the filter's output for gradients of any size, and first oscillates with period two."""
        rule, decay = self.rule, torch.as_tensor(self.rule.decay(start)).max()
        with explained(f"{self.name}.filter fails"):
            rule.filter.check(float(decay))
        if rule.threshold != rule.filter.threshold:
            raise InputError(
                f"{self.name}.threshold is {rule.threshold!r}, but that of its filter is {rule.filter.threshold:.4g}: "
                "declare the filter, and leave threshold as it is."
            )
        for scale in _SCALES:
            state, kept = start, rule.filter.init(self.w)
            for g in (scale * self.g, scale * self.h, scale * (self.h - self.g)):
                state, kept = rule.update(state, g), rule.filter.update(kept, g)
                direction = rule.direction(replace(state, t=_LATE), g)
                expected = rule.filter.output(kept, g, _LATE)
                given = f"under gradients of size {size(g)}"
                if not close(direction, expected):
                    raise InputError(
                        f"{self.name}.direction is {size(direction)} {given}, but its filter makes {size(expected)} of "
                        "them: declare the linear filter that it applies, or there is no flow."
                    )
                moved = rule.step(self.w, state, g) - self.w
                drift = rule.drift(self.w, state, rule.direction(state, g))
                if not close(moved, drift):
                    raise InputError(
                        f"{self.name}.step moves the weights by {size(moved)} {given}, but -P^-1 direction - decay w "
                        f"is {size(drift)}: define preconditioner, filter or decay to match it."
                    )

    def check_rates(self, before: State, after: State) -> None:
        """The state's rates are its changes in a step, and P follows them."""
        rates = self.call("rates", after, self.h)
        if not isinstance(rates, State) or rates.t != 1.0:
            raise InputError(f"{self.name}.rates must return a State with t = 1.")
        for name, value in vars(after).items():
            rate = getattr(rates, name, None)
            if rate is not None and not isinstance(value, tuple):
                change = value - getattr(before, name)
                if not close(rate, change):
                    raise InputError(
                        f"{self.name}.rates moves {name} by {size(rate)} in a unit of time, but update moves it by "
                        f"{size(change)} in a step: define rates to match update."
                    )
            elif isinstance(value, Tensor) and self.depends_on(after, name):
                raise InputError(
                    f"{self.name}.preconditioner depends on the state's {name}, which rates leaves out: define rates, "
                    "preconditioner_rate and memory to match update."
                )
            elif isinstance(value, tuple):
                raise InputError(f"The state's field {name} is a tuple, which no flow can move: use one tensor.")
        h = 1e-3  # a forward difference, since a schedule has a corner at every step
        here, ahead, further = (
            torch.as_tensor(diagonal(self.rule.preconditioner(after.moved(rates, dt))), dtype=self.w.dtype).log()
            for dt in (0.0, h, 2 * h)
        )
        expected = diagonal(self.rule.preconditioner(after)) * (4 * ahead - 3 * here - further) / (2 * h)
        found = torch.as_tensor(self.call("preconditioner_rate", after, rates), dtype=self.w.dtype)
        if not close(found.expand_as(expected), expected, least=1e-6 * diagonal(self.rule.preconditioner(after))):
            raise InputError(
                f"{self.name}.preconditioner_rate is {size(found)}, but the preconditioner changes by "
                f"{size(expected)} in a unit of time along rates: define preconditioner_rate to match it."
            )

    def depends_on(self, state: State, name: str) -> bool:
        """Whether P depends on a field of the state."""
        other = replace(state, **{name: 1.5 * getattr(state, name) + 0.1})
        P, Q = (diagonal(self.rule.preconditioner(s)) for s in (state, other))
        return not close(P, Q)

    def check_memory(self, before: State) -> None:
        """P follows squared gradients through nu alone, with the rate and sensitivity that ``memory`` gives."""
        rule, g, h = self.rule, self.g, 2 * self.h
        small, large = rule.update(before, g), rule.update(before, h)
        P, Q = (diagonal(rule.preconditioner(state)) for state in (small, large))
        memory = self.call("memory", small)
        if memory is None:
            if not close(P, Q):
                raise InputError(
                    f"{self.name}.preconditioner goes from {size(P)} to {size(Q)} with another gradient, but memory "
                    "says that it depends on none: define rates, preconditioner_rate, memory and observed, or no flow."
                )
            return
        if small.nu is None or large.nu is None:
            raise InputError(f"{self.name}.memory is defined, but the state lacks nu: average squared gradients there.")
        if not close(diagonal(rule.preconditioner(replace(small, nu=large.nu))), Q):
            raise InputError(
                f"{self.name}.preconditioner follows the gradient through more of the state than nu, which memory "
                "cannot describe: let it depend on nu alone."
            )
        with explained(f"{self.name}.observed fails"):
            squares = {
                key: rule.observed(a[None], b[None])[0]
                for key, a, b in (("gg", g, g), ("hh", h, h), ("gh", g, h), ("both", g + h, g + h))
            }
        if not close(squares["both"], squares["gg"] + 2 * squares["gh"] + squares["hh"]):
            raise InputError(f"{self.name}.observed must be a symmetric product, linear in both gradients; it is not.")
        nu = large.nu - small.nu
        expected = memory.rate / (1.0 + memory.rate) * (squares["hh"] - squares["gg"]).reshape(nu.shape)
        if not close(expected, nu):
            raise InputError(
                f"{self.name}.update raises nu by {size(nu)} with a larger gradient, but memory.rate / (1 + "
                f"memory.rate) times the change of observed is {size(expected)}: define memory and observed to match."
            )
        step = 1e-4 * small.nu * (1.0 + 0.5 * torch.cos(torch.arange(nu.numel()).to(nu)).reshape(nu.shape))
        ahead, behind = (diagonal(rule.preconditioner(replace(small, nu=small.nu + s * step))) for s in (1, -1))
        difference, stated = (ahead - behind) / 2, memory.sensitivity * step
        if not close(stated, difference, least=1e-8 * P):
            raise InputError(
                f"{self.name}.memory.sensitivity times a small change of nu is {size(stated)}, but the preconditioner "
                f"changes by {size(difference)}: define memory to match preconditioner."
            )
