"""Damping and shrinkage together: they limit a flow's forecasts of runs unlike the fitted ones."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from gfm.matching.damping import Damping, choose_damping, decline
from gfm.matching.flow import Flow, pieces
from gfm.matching.integrate import Solver
from gfm.matching.optimizer_state import gradients
from gfm.matching.shrinkage import Shrinkage, lengths, squares_of
from gfm.trajectories import Trajectories

__all__ = ["Restraint"]


@dataclass(frozen=True)
class Restraint:
    """Factors on a forecast's displacement from the last observed state.

    Attributes:
        optimizer_state: whether the decline of a run is measured by its gradients (otherwise by its increments).
        damping: of runs that slow down faster than the fitted ones, or None.
        shrinkage: of forecasts that go farther than the run's speed suggests, or None.
        name: which damping the held-out forecasts chose.
    """

    optimizer_state: bool = False
    damping: Damping | None = None
    shrinkage: Shrinkage | None = None
    name: str = "none"

    @classmethod
    def fit(
        cls, train: Trajectories, held: Trajectories, flow: Flow, solver: Solver, cautious: bool
    ) -> "Restraint":
        """Choose the damping by the flow's held-out errors under each and, if cautious, fit the shrinkage."""
        observed, optimizer_state = flow.n, bool(flow.optimizer_state)
        plain, prefix, truth = cls(optimizer_state), held.prefix(flow.n), held.weights[:, flow.n + 1 :]
        states = flow.forecast(prefix, truth.shape[1], solver)

        def errors(damping: Damping | None) -> np.ndarray:
            return np.square(replace(plain, damping=damping).apply(prefix, states) - truth).mean(axis=(1, 2))

        name, damping = choose_damping(plain.rates(train.prefix(observed)), errors)
        shrinkage = None
        if cautious:
            fitted = (train, held)
            squares = np.concatenate([squares_of(data.weights[:, : observed + 1]) for data in fitted])
            ways = [lengths(data.weights[:, observed + 1 :], data.weights[:, observed]) for data in fitted]
            shrinkage = Shrinkage.of(squares, np.concatenate(ways))
        return cls(optimizer_state, damping, shrinkage, name)

    def no_more_than(self, damping: str) -> Self:
        """The part of the restraint that the option ``damping`` (one of DAMPINGS) allows."""
        return replace(
            self,
            damping=None if damping == "none" else self.damping,
            shrinkage=self.shrinkage if damping == "cautious" else None,
        )

    def apply(self, prefix: Trajectories, states: np.ndarray) -> np.ndarray:
        """The forecast states (runs, horizon, p) with shortened displacements."""
        last = prefix.weights[:, -1]
        if self.damping is not None:
            states = _shorter(states, last, self.damping.gains(self.rates(prefix), states.shape[1]))
        if self.shrinkage is not None:
            states = _shorter(states, last, self.shrinkage.gains(squares_of(prefix.weights), lengths(states, last)))
        return states

    def rates(self, prefix: Trajectories) -> np.ndarray:
        """(runs,) rate at which the gradients, or the increments, decline."""
        squares = np.zeros((prefix.runs, prefix.weights.shape[1] - 1))
        known = self.optimizer_state and not (np.diff(prefix.steps) > 1).any()
        for some, _, piece in pieces(prefix, 32 * prefix.weights.shape[1], 2**28):
            steps = gradients(piece) if known else np.diff(piece.weights.astype(np.float64), axis=1)
            squares[some] += np.square(steps).sum(axis=2)
        return decline(squares)


def _shorter(states: np.ndarray, last: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The states with (runs, horizon) gains on their displacements from ``last``; one state at a time."""
    out, gains = np.empty_like(states), gains.astype(states.dtype)
    for step in range(states.shape[1]):
        out[:, step] = last + gains[:, step, None] * (states[:, step] - last)
    return out
