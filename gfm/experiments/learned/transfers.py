"""Forecasters fitted to one kind of network and used on another, with other starts or widths."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gfm.experiments.learned.least_squares import add_report, make_forecaster
from gfm.experiments.learned.small_networks import OBSERVED, WIDTH, flow_options, small_networks, split_sizes
from gfm.forecasters import Forecaster
from gfm.matching import FlowForecaster
from gfm.matching.damping import DAMPINGS
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["NetworkTransfer"]

OTHERS = 1000
"""Added to a replicate's number, so that the networks forecast share nothing with the fitted ones."""


@dataclass(frozen=True)
class NetworkTransfer(Experiment):
    """One replicate: forecasters fitted to networks of width 10, each tested on other networks.

    Arrays: errors (forecasters, tests), hold (tests,): mean squared error at step 200.

    Args:
        forecasters: (name, aware, damping) of each: the first two as in :class:`NetworkForecast`; the damping of a
            flow is one of DAMPINGS (one fit serves all of them).
        tests: (factor on the initial weights, hidden neurons) of the networks that are forecast; (1, 10) are
            unseen runs of the fitted kind.
        replicate: its number; tasks, data, starts, batches and training are its own.
    """

    name: ClassVar[str] = "gfm/transfer"

    forecasters: tuple[tuple[str, str, str], ...] = (("affine-flow", "auto", "auto"),)
    optimizer: str = "Adam"
    tests: tuple[tuple[float, int], ...] = ((1.0, WIDTH),)
    replicate: int = 0
    epochs: int | None = None
    runs: int = 200

    def compute(self, context: Context) -> Result:
        """Fit each forecaster to networks of width 10 and forecast every test set."""
        sizes = split_sizes(self.runs)
        train, validation, same = small_networks(self.optimizer, self.replicate, self.runs).split(*sizes)
        sets = [
            same if (scale, width) == (1.0, WIDTH) else small_networks(
                self.optimizer, OTHERS + self.replicate, sizes[2], width=width, scale=scale
            )
            for scale, width in self.tests
        ]
        errors = np.empty((len(self.forecasters), len(sets)))
        info: dict[str, list] = {"seconds": [], "notes": []}
        fitted: dict[tuple[str, str], Forecaster] = {}
        for row, (name, aware, damping) in enumerate(self.forecasters):
            if (name, aware) not in fitted:
                fitted[name, aware] = self._fit(name, aware, train, validation, context.device())
            model = fitted[name, aware]
            if isinstance(model, FlowForecaster):
                model = model.with_damping(damping)
            for column, test in enumerate(sets):
                forecast = model.forecast(test.prefix(OBSERVED))[:, -1]
                errors[row, column] = np.square(forecast - test.final).mean()
            add_report(info, model)
            context.progress(row + 1, len(self.forecasters))
        hold = [np.square(test.weights[:, OBSERVED] - test.final).mean() for test in sets]
        return Result({"errors": errors, "hold": np.array(hold)}, info)

    def _fit(
        self, name: str, aware: str, train: Trajectories, validation: Trajectories, device: torch.device
    ) -> Forecaster:
        options = flow_options(name, aware, "auto")
        if options:
            most = max(DAMPINGS.index(d) for n, a, d in self.forecasters if (n, a) == (name, aware))
            options["damping"] = DAMPINGS[most]
        model = make_forecaster(name, OBSERVED, self.epochs, seed=self.replicate, **options)
        return model.fit(train, validation=validation, device=device)
