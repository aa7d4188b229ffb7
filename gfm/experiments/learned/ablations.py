"""What each part of the model contributes: named variants on named data."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from gfm.checks import known
from gfm.data.least_squares import BATCH, ROWS, SGD_RATE
from gfm.experiments.learned.least_squares import SPLIT, replicate_set
from gfm.experiments.learned.small_networks import mean_square, small_networks
from gfm.forecasters import Forecaster
from gfm.matching import AffineFlow, Conditioning, GradientFlowMatching, IncrementPath, MemorylessFlow, Network, Solver
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories, record

__all__ = ["DATA", "OTHER_DATA", "VARIANTS", "Ablation", "falling"]

VARIANTS: dict[str, dict[str, Any]] = {
    "whole model": {},
    "no memory: v(w, t)": {"memoryless": True},
    "no memory, no time: v(w)": {"memoryless": True, "time": False},
    "all weights together: v(w)": {"view": "vector"},
    "linear layer only": {"network": Network(hidden=())},
    "context: first and last state": {"conditioning": Conditioning(context="ends")},
    "context: all observed states": {"conditioning": Conditioning(context="prefix")},
    "state: free slope": {"network": Network(state="linear")},
    "free slope, path inside a step": {"network": Network(state="linear"), "path": IncrementPath("linear")},
    "free slope, path of one step": {"network": Network(state="linear"), "path": IncrementPath()},
    "state: not used": {"network": Network(state="none")},
    "schedule: not used": {"schedule": False},
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
OTHER_DATA = ("3 weights, falling rate", "3 weights, another fall", "31 weights, momentum", "31 weights, RMSprop")
FALL = 200  # steps over which the rate falls to zero
RATE = SGD_RATE * BATCH / 2  # for the mean of squares over a batch; SGD_RATE is for half their sum


@lru_cache(maxsize=4)  # every variant of a table asks for the same runs
def falling(replicate: int, fall: int = FALL, runs: int = sum(SPLIT), steps: int = 200) -> Trajectories:
    """Descents on least squares with 3 weights, with a learning rate that falls linearly to zero over ``fall`` steps.

    Laws, sizes and the first rate are those of :mod:`gfm.data.least_squares`; batches come from shuffled passes.
    """
    generator = torch.Generator().manual_seed(9_000_000 + replicate)
    inputs = torch.randn(runs, ROWS, 3, dtype=torch.float64, generator=generator)
    optima = torch.randn(runs, 3, 1, dtype=torch.float64, generator=generator)

    def build() -> nn.Module:
        net = nn.Linear(3, 1, bias=False, dtype=torch.float64)
        nn.init.uniform_(net.weight)
        return net

    return record(
        build, inputs, inputs @ optima, mean_square, "SGD", RATE, runs, steps, batch=BATCH, seed=replicate,
        per_run=True, schedule=lambda method: LambdaLR(method, lambda step: max(1 - step / fall, 0.0)),
    )


@dataclass(frozen=True)
class Ablation(Experiment):
    """Test error at the last step of one variant on one data set, over replicates.

    In ``"falling rate"`` SGD's learning rate falls linearly to zero over the recorded steps; in ``"another fall"`` the
    runs that are forecast have a rate that falls twice as fast as that of the fitted runs.

    Replicates are independent in tasks, data, starts and batches, and no setting was chosen on those from 50 on.
    Arrays: errors (replicates,), hold (replicates,).

    Args:
        variant: a name in VARIANTS.
        data: a name in DATA or OTHER_DATA.
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
        known("data set", self.data, (*DATA, *OTHER_DATA))
        errors, holds, seconds = [], [], []
        for replicate in range(self.replicates):
            train, validation, test = self._parts(self.first + replicate)
            model = self._model(replicate).fit(train, validation=validation, device=context.device())
            truth = test.final
            forecast = model.forecast(test.prefix(self.observed))[:, -1]
            errors.append(np.square(forecast - truth).mean())
            holds.append(np.square(test.weights[:, self.observed] - truth).mean())
            seconds.append(model.fitted.seconds)
            context.progress(replicate + 1, self.replicates)
        return Result({"errors": np.array(errors), "hold": np.array(holds)}, {"fits": seconds})

    def _parts(self, replicate: int) -> list[Trajectories]:
        """Runs to fit to, to validate by, and to forecast."""
        kind, _, optimizer = self.data.partition(", ")
        if kind == "31 weights":
            return list(small_networks(optimizer, replicate).split(*SPLIT))
        if optimizer in ("SGD", "GD"):
            weights = replicate_set(3, optimizer, replicate).weights
            return list(Trajectories(weights, meta={"optimizer": "SGD", "lr": 1.0}).split(*SPLIT))
        parts = list(falling(replicate).split(*SPLIT))
        if optimizer == "another fall":
            parts[2] = falling(replicate, FALL // 2)[-SPLIT[2] :]
        if not VARIANTS[self.variant].get("schedule", True):
            parts = [part.replaced(meta={k: v for k, v in part.meta.items() if k != "schedule"}) for part in parts]
        return parts

    def _model(self, seed: int) -> Forecaster:
        options = {name: value for name, value in VARIANTS[self.variant].items() if name != "schedule"}
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
