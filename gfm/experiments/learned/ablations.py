"""What each part of the model contributes: named variants on named data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gfm.checks import known
from gfm.experiments.learned.least_squares import SPLIT, replicate_set
from gfm.experiments.learned.small_networks import small_networks
from gfm.matching import Conditioning, IncrementPath, MemorylessFlow, Network, PrefixFlow, Solver
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["DATA", "VARIANTS", "Ablation"]

KEPT = Network(always=True)
VARIANTS: dict[str, dict[str, Any]] = {
    "whole model": {},
    "no memory: v(w, t)": {"memoryless": True},
    "no memory, no time: v(w)": {"memoryless": True, "time": False},
    "all weights together: v(w)": {"view": "vector", "network": None},
    "prefix: first and last state only": {"conditioning": Conditioning(context="ends")},
    "no drive (one rate, one aim)": {"conditioning": Conditioning(ridges=(np.inf,)), "network": None},
    "drive by plain least squares": {"conditioning": Conditioning(ridges=(0.0,)), "network": None},
    "no network": {"network": None},
    "network always kept": {"network": KEPT},
    "network on end points": {"network": replace(KEPT, target="end-point")},
    "network on velocity and end points": {"network": replace(KEPT, target="both")},
    "network sees the state": {"network": replace(KEPT, state=True)},
    "network does not see the time": {"network": replace(KEPT, time=False)},
    "path: one step, at its start": {"network": KEPT, "path": IncrementPath()},
    "path: one step, inside it": {"network": replace(KEPT, state=True), "path": IncrementPath("linear")},
    "path: ten steps, noise 0.1": {"network": replace(KEPT, state=True), "path": IncrementPath(noise=0.1, span=10)},
    "blind to the optimizer's state": {"conditioning": Conditioning(optimizer_state=False)},
    "runs unscaled": {"conditioning": Conditioning(scale="none")},
    "runs scaled by their movement": {"conditioning": Conditioning(scale="run")},
    "layers scaled by their movement": {"conditioning": Conditioning(scale="layer")},
    "solver: Runge-Kutta of order 4": {"solver": Solver("rk4")},
    "solver: four Euler substeps": {"solver": Solver(substeps=4)},
    "single precision": {"solver": Solver(dtype="float32")},
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
            UnknownNameError: ``variant`` or ``data`` is unknown.
        """
        known("variant", self.variant, VARIANTS)
        known("data set", self.data, DATA)
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

    def _model(self, seed: int) -> MemorylessFlow | PrefixFlow:
        options = dict(VARIANTS[self.variant])
        memoryless = options.pop("memoryless", False)
        model = (MemorylessFlow if memoryless else PrefixFlow)(self.observed, **options)
        epochs = 4 * self.epochs if memoryless else self.epochs
        model.training = replace(model.training, epochs=epochs, seed=seed)
        return model
