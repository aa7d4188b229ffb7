"""What each part of the model brings: named variants, on named data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gfm.errors import UnknownNameError
from gfm.experiments.learned.least_squares import SPLIT, replicate_set
from gfm.experiments.learned.networks import small_networks
from gfm.matching import GradientFlowMatching, IncrementPath, MemorylessFlow
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["DATA", "VARIANTS", "Ablation"]

KEPT = {"correction": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "whole model": {},
    "no memory: v(w, t)": {"memoryless": True},
    "no memory, no time: v(w)": {"memoryless": True, "time": False},
    "all weights together: v(w)": {"view": "vector", "correction": False},
    "prefix: first and last state only": {"context": "ends"},
    "no drive (one rate, one aim)": {"ridges": (np.inf,), "correction": False},
    "drive by plain least squares": {"ridges": (0.0,), "correction": False},
    "no network": {"correction": False},
    "network always kept": KEPT,
    "network on end points": {**KEPT, "target": "end-point"},
    "network on velocity and end points": {**KEPT, "target": "both"},
    "network sees the state": {**KEPT, "state": True},
    "network does not see the time": {**KEPT, "time": False},
    "path: one step, at its start": {**KEPT, "path": IncrementPath()},
    "path: one step, inside it": {**KEPT, "path": IncrementPath("linear"), "state": True},
    "path: ten steps, noise 0.1": {
        **KEPT, "path": IncrementPath(noise=0.1, span=10), "state": True,
    },
    "blind to the optimizer's state": {"aware": False},
    "runs unscaled": {"scale": "none"},
    "runs scaled by their movement": {"scale": "run"},
    "layers scaled by their movement": {"scale": "layer"},
    "solver: Runge-Kutta of order 4": {"method": "rk4"},
    "solver: four Euler substeps": {"substeps": 4},
    "single precision": {"dtype": "float32"},
}
DATA = ("3 weights, SGD", "3 weights, GD", "31 weights, Adam")


@dataclass(frozen=True)
class Ablation(Experiment):
    """Test error at the last step of one variant on one data set, over replicates.

    Arrays: errors (replicates,), hold (replicates,).
    """

    name: ClassVar[str] = "gfm/ablation"

    variant: str = "whole model"
    data: str = "3 weights, SGD"
    replicates: int = 3
    epochs: int = 100
    observed: int = 20

    def compute(self, context: Context) -> Result:
        """Fit and forecast each replicate.

        Raises:
            UnknownNameError: ``variant`` or ``data`` is not one of the known.
        """
        if self.variant not in VARIANTS or self.data not in DATA:
            raise UnknownNameError(f"No ablation {self.variant!r} on {self.data!r}.")
        errors, holds, seconds = [], [], []
        for replicate in range(self.replicates):
            train, validation, test = self._data(replicate).split(*SPLIT)
            model = self._model(replicate).fit(train, validation=validation)
            truth = test.final
            forecast = model.forecast(test.prefix(self.observed))[:, -1]
            errors.append(np.square(forecast - truth).mean())
            holds.append(np.square(test.weights[:, self.observed] - truth).mean())
            seconds.append(model.fitted.seconds)
            context.progress(replicate + 1, self.replicates)
        return Result({"errors": np.array(errors), "hold": np.array(holds)}, {"fits": seconds})

    def _data(self, replicate: int) -> Trajectories:
        if self.data == "31 weights, Adam":
            return small_networks("Adam", replicate)
        return Trajectories(replicate_set(3, self.data.rpartition(" ")[2], replicate + 1).weights)

    def _model(self, seed: int) -> MemorylessFlow | GradientFlowMatching:
        options = dict(VARIANTS[self.variant])
        if options.pop("memoryless", False):
            model: MemorylessFlow | GradientFlowMatching = MemorylessFlow(self.observed, **options)
            epochs = 4 * self.epochs
        else:
            options.setdefault("view", "coordinate")
            model = GradientFlowMatching(self.observed, **options)
            epochs = self.epochs
        model.training = replace(model.training, epochs=epochs, seed=seed)
        return model
