"""The interface of a learned flow: the methods that a model requires of every view of the weights."""

from collections.abc import Iterator
from itertools import product
from typing import ClassVar, Protocol

import numpy as np
from torch import nn

from gfm.forecasting.report import FitReport
from gfm.matching.integrate import Solver
from gfm.matching.options import FlowOptions
from gfm.trajectories import Trajectories

__all__ = ["Flow", "pieces"]


class Flow(Protocol):
    """A field fitted to recorded runs, and the flow along it that continues a prefix.

    A new flow is a class in its own file that inherits from this one and is listed among the ``flows`` of a model
    (:mod:`gfm.matching.model`). It defines ``fit``, ``forecast`` and ``size``; the rest has defaults.

    Attributes:
        view: its name as a value of the model's option ``view``.
        coordinatewise: whether the number of weights may differ between fitting and forecasting.
        n: the number of the last observed step.
        options: see :class:`FlowOptions`.
        network: the field's network, or None.
        optimizer_state: whether, or how, the fitted flow uses the optimizer's recorded state.
    """

    view: ClassVar[str]
    coordinatewise: ClassVar[bool] = True
    optimizer_state: bool | str = False
    n: int
    options: FlowOptions
    network: nn.Module | None

    def __init__(self, observed: int, options: FlowOptions) -> None:
        self.n, self.options = observed, options
        self.network = None

    @classmethod
    def suits(cls, train: Trajectories) -> bool:
        """Whether ``view="auto"`` tries this flow on these runs."""
        return False

    def fit(self, train: Trajectories, held: Trajectories, report: FitReport) -> np.ndarray:
        """Fit the field to ``train``, and fill in the report's curve if a network is trained.

        Returns the (runs,) held-out errors by which views are compared.
        """
        ...

    def forecast(self, prefix: Trajectories, horizon: int, solver: Solver) -> np.ndarray:
        """(runs, horizon, p) states after the prefix."""
        ...

    def errors(self, held: Trajectories) -> np.ndarray:
        """(runs,) mean squared error of the forecasts of held-out runs."""
        truth = held.weights[:, self.n + 1 :]
        forecast = self.forecast(held.prefix(self.n), truth.shape[1], self.options.solver)
        return np.square(forecast - truth).mean(axis=(1, 2))

    def rebuild(self) -> None:
        """Create the network of a saved flow, if it has one, with any weights; all other attributes are already set."""
        return

    @property
    def size(self) -> int:
        """Number of fitted parameters, including the network's."""
        ...

    @property
    def notes(self) -> dict[str, object]:
        """What was chosen by the held-out runs, by name."""
        return {}


def pieces(prefix: Trajectories, bytes_per_weight: int, memory: int) -> Iterator[tuple[slice, slice, Trajectories]]:
    """Divide a prefix of the coordinate view, whose weights are independent of each other, into pieces that fit memory.

    Yields:
        The runs and the weights of a piece (at least one weight of one run), and these with their optimizer states.
    """
    p = prefix.parameters
    chunk = max(int(memory // bytes_per_weight), 1)
    rows, columns = max(chunk // p, 1), min(chunk, p)
    for first, start in product(range(0, prefix.runs, rows), range(0, p, columns)):
        runs, weights = slice(first, first + rows), slice(start, start + columns)
        states = {name: value[runs, :, weights] for name, value in prefix.states.items()}
        buffers = {name: value[runs] for name, value in prefix.buffers.items()}
        part = prefix.weights[runs, :, weights]
        yield runs, weights, prefix.replaced(weights=part, groups=None, states=states, layout=None, buffers=buffers)
