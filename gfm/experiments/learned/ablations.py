"""What each part of the model contributes: named variants on named data."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gfm.checks import known
from gfm.experiments.learned.least_squares import SPLIT, replicate_set
from gfm.experiments.learned.small_networks import small_networks
from gfm.forecasters import Forecaster
from gfm.matching import AffineFlow, Conditioning, GradientFlowMatching, IncrementPath, MemorylessFlow, Network, Solver
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["DATA", "VARIANTS", "Ablation"]

VARIANTS: dict[str, dict[str, Any]] = {
    "whole model": {},
    "no memory: v(w, t)": {"memoryless": True},
    "no memory, no time: v(w)": {"memoryless": True, "time": False},
    "all weights together: v(w)": {"view": "vector"},
    "linear layer only": {"network": Network(hidden=())},
    "context: first and last state": {"conditioning": Conditioning(context="ends")},
    "context: all observed states": {"conditioning": Conditioning(context="prefix")},
    "state: free slope": {"network": Network(state="linear")},
    "state: not used": {"network": Network(state="none")},
    "time: not used": {"network": Network(knots=1)},
    "blind to the optimizer": {"conditioning": Conditioning("auto", optimizer_state=False)},
    "told the optimizer": {"conditioning": Conditioning("auto", optimizer_state=True)},
    "told it as inputs only": {"conditioning": Conditioning("auto", optimizer_state="inputs")},
    "path: inside a step": {"path": IncrementPath("linear")},
    "path: one step": {"path": IncrementPath()},
    "path: twenty steps": {"path": IncrementPath(span=20)},
    "path: noise of a tenth": {"path": IncrementPath(noise=0.1)},
    "runs unscaled": {"conditioning": Conditioning("auto", "none")},
    "runs scaled by their movement": {"conditioning": Conditioning("auto", "run")},
    "solver: Runge-Kutta of order 4": {"solver": Solver("rk4")},
    "solver: four Euler substeps": {"solver": Solver(substeps=4)},
    "single precision": {"solver": Solver(dtype="float32")},
    "affine flow": {"affine": True},
    "affine flow without drive": {"affine": True, "ridges": (np.inf,)},
    "affine flow, least-squares drive": {"affine": True, "ridges": (0.0,)},
}
DATA = ("3 weights, SGD", "3 weights, GD", "31 weights, Adam")


@dataclass(frozen=True)
class Ablation(Experiment):
    """Test error at the last step of one variant on one data set, over replicates.

    Replicates are independent in tasks, data, starts and batches, and no setting was chosen on those from 50 on.
    Arrays: errors (replicates,), hold (replicates,).

    Args:
        variant: a name in VARIANTS.
        data: a name in DATA.
        replicates: their number.
        epochs: maximum number of epochs of a fit.
        observed: the number of the last observed state.
        first: number of the first replicate.
    """

    name: ClassVar[str] = "gfm/ablation"

    variant: str = "whole model"
    data: str = "3 weights, SGD"
    replicates: int = 3
    epochs: int = 100
    observed: int = 20
    first: int = 50

    def compute(self, context: Context) -> Result:
        """Fit and forecast each replicate.

        Raises:
            UnknownNameError: ``variant`` or ``data`` is unknown.
        """
        known("variant", self.variant, VARIANTS)
        known("data set", self.data, DATA)
        errors, holds, seconds = [], [], []
        for replicate in range(self.replicates):
            train, validation, test = self._data(self.first + replicate).split(*SPLIT)
            model = self._model(replicate).fit(train, validation=validation, device=context.device())
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
        weights = replicate_set(3, self.data.rpartition(" ")[2], replicate).weights
        return Trajectories(weights, meta={"optimizer": "SGD", "lr": 1.0})

    def _model(self, seed: int) -> Forecaster:
        options = dict(VARIANTS[self.variant])
        if options.pop("affine", False):
            return AffineFlow(self.observed, view="coordinate", **options)
        if options.pop("memoryless", False):
            model: MemorylessFlow | GradientFlowMatching = MemorylessFlow(self.observed, **options)
            epochs = 4 * self.epochs
        else:
            model = GradientFlowMatching(self.observed, **{"view": "coordinate", **options})
            epochs = self.epochs
        model.training = replace(model.training, epochs=epochs, seed=seed)
        return model
