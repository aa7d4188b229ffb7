"""The processes that a run can follow: discrete, on mini-batches, midpoint, stable and central flow, and rivals."""

from typing import Any

from torch import Tensor

from gfm.central.base import Flow, Observation, Process
from gfm.central.flow import Central
from gfm.central.minibatch import Stochastic
from gfm.central.rivals import EdgeFlow, RodFlow
from gfm.central.settings import Settings
from gfm.optimizers import Optimizer, State
from gfm.problem import Problem

__all__ = ["PROCESSES", "Central", "Discrete", "Midpoint", "Stable"]


class Discrete(Process):
    """The optimizer itself."""

    def observe(self, t: int) -> Observation:
        """See ``Process``."""
        measure = t % self.settings.eigen_every == 0
        point = self.problem.at(self.w, self.tracker.width if measure else 1)
        self.gradient = point.gradient
        self.state = self.optimizer.update(self.state, point.gradient)
        spectrum = self.tracker.refresh(point, self.optimizer.edge(self.state)) if measure else None
        return self.observation(point, spectrum)

    def advance(self) -> None:
        """See ``Process``."""
        self.w = self.optimizer.step(self.w, self.state, self.gradient)


class Midpoint(Process):
    """(w_{t-1} + 2 w_t + w_{t+1}) / 4 along the optimizer's path, so that period-two oscillation cancels."""

    def __init__(self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State):
        super().__init__(problem, optimizer, settings, w, state)
        self._previous, self._present = w, w
        self._next()

    def state_dict(self) -> dict[str, Any]:
        """See ``Process``."""
        points = {"previous": self._previous, "present": self._present, "following": self._following}
        return super().state_dict() | points

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """See ``Process``."""
        super().load_state_dict(kept)
        self._previous, self._present, self._following = kept["previous"], kept["present"], kept["following"]

    def _next(self) -> None:
        gradient = self.problem.gradient(self._present)
        self._following, self.state = self.optimizer.advance(self._present, self.state, gradient)
        self.w = (self._previous + 2 * self._present + self._following) / 4

    def observe(self, t: int) -> Observation:
        """See ``Process``."""
        measure = t % self.settings.eigen_every == 0
        point = self.problem.at(self.w, self.tracker.width if measure else 1)
        spectrum = self.tracker.refresh(point, self.optimizer.edge(self.state)) if measure else None
        return self.observation(point, spectrum)

    def advance(self) -> None:
        """See ``Process``."""
        self._previous, self._present = self._present, self._following
        self._next()


class Stable(Flow):
    """The flow without oscillation; for gradient descent it is gradient flow."""

    follows_all = False  # only the largest eigenvalue bounds its substeps

    def observe(self, t: int) -> Observation:
        """See ``Process``."""
        point, spectrum = self.look(t)
        self._gradient, self._rate = point.gradient, self.top_rate(spectrum)
        seen = self.observation(point, spectrum)
        if self._rate > self.settings.max_effective:
            self.alive = False
        return seen

    def advance(self) -> None:
        """See ``Process``."""
        count = self.substeps_for(2 * self._rate)
        gradient = self._gradient
        del self._gradient
        for s in range(count):
            if s:
                gradient = self.problem.gradient(self.w)
            rate = self.optimizer.drift(self.w, self.state, gradient)
            self.move(rate, self.optimizer.rates(self.state, gradient), 1.0 / count)


PROCESSES: dict[str, type[Process]] = {
    "discrete": Discrete,
    "minibatch": Stochastic,
    "midpoint": Midpoint,
    "stable": Stable,
    "central": Central,
    "rod": RodFlow,
    "edge": EdgeFlow,
}
