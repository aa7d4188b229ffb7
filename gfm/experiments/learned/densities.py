"""Many SGD runs on one loss of one weight: the weight's distribution during training, and a flow for it."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.stats import ks_2samp

from gfm.data.least_squares import shared_least_squares
from gfm.matching import MemorylessFlow
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["WeightDensities"]


@dataclass(frozen=True)
class WeightDensities(Experiment):
    """SGD on one least-squares loss of one weight from starts U(0, 1), and v(w, t) fitted to half of the runs.

    Arrays: steps (8,), states (8, runs/2) of the runs not fitted, carried (8, runs/2) their starts carried
    along the learned flow, path (8,) one of them, optimum (1,). Info: distances (Kolmogorov-Smirnov, between
    carried and recorded weights, by epoch), noise (the same between the two halves of the recorded runs).

    Args:
        runs: total number of runs.
        sample: the published set whose task is used for all runs.
        epochs: maximum number of epochs of the fit.
    """

    name: ClassVar[str] = "gfm/densities"

    runs: int = 400
    sample: int = 1
    epochs: int = 300
    seed: int = 0

    def compute(self, context: Context) -> Result:
        """Fit the flow to half of the runs and carry the starts of the other half along it."""
        made = shared_least_squares(1, "SGD", self.sample, runs=self.runs)
        steps = np.round(np.linspace(0, 200, 8)).astype(int)
        data = Trajectories(made.weights)
        half = self.runs // 2
        train, test = data.split(half, self.runs - half)
        model = MemorylessFlow(observed=1)
        model.training = replace(model.training, epochs=self.epochs, seed=self.seed)
        model.fit(train, validation=test, device=context.device())
        # the flow starts at step 1, after the first recorded step
        forecast = np.concatenate([test.weights[:, :2], model.forecast(test.prefix(1))], axis=1)
        states, carried = test.weights[:, steps, 0].T, forecast[:, steps, 0].T
        distances = [float(ks_2samp(a, b).statistic) for a, b in zip(states, carried, strict=True)]
        other = train.weights[:, steps, 0].T
        noise = [float(ks_2samp(a, b).statistic) for a, b in zip(states, other, strict=True)]
        context.progress(1, 1)
        far = int(np.argmax(np.abs(states[0] - made.optima[0, 0])))
        arrays = {"steps": steps, "states": states, "carried": carried, "path": states[:, far]}
        info = {"distances": distances, "noise": noise, "seconds": model.fitted.seconds}
        return Result({**arrays, "optimum": made.optima[0]}, info)
