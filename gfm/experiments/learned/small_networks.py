"""The 31-weight regression network under four optimizers: recorded runs, and forecasts of them."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gfm.experiments.learned.least_squares import add_report, make_forecaster
from gfm.forecasting.training import Training
from gfm.matching import Conditioning
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories, record

__all__ = [
    "OBSERVED", "WIDTH", "NetworkForecast", "flow_options", "half_net", "losses_at", "mean_square", "slopes",
    "small_networks", "split_sizes",
]

WIDTH = 10
POINTS = 100
BATCH = 64
RATE = 0.002
OBSERVED = 20
SEQUENCE = Training(batch=128, epochs=400, patience=9, schedule="plateau")
"""How the sequence models are trained, on thousands of series."""
RATES = {("lstm", "no"): 1e-2, ("lstm", "yes"): 1e-3, ("transformer", "no"): 1e-2, ("transformer", "yes"): 1e-2}
"""Learning rates without and with the optimizer's state, chosen on the validation runs of replicates 0 and 1."""


def half_net(width: int = WIDTH) -> nn.Module:
    """1-width-1 with ReLU and biases (31 weights at width 10), float64."""
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1)).double()


def mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples and outputs of the squared difference of two (n, outputs), 0-d."""
    return (outputs - targets).square().mean()


@lru_cache(maxsize=24)  # every forecaster of a table asks for the same runs
def small_networks(
    optimizer: str = "SGD", replicate: int = 0, runs: int = 200, steps: int = 200,
    width: int = WIDTH, scale: float = 1.0,
) -> Trajectories:
    """Runs of the regression network in the code of arXiv 2505.02714, seeded, and with optimizers named correctly.

    Every run has its own 100 points x ~ N(0, 1), y = w* x with w* ~ N(0, 1); mini-batches of 64 (two
    steps per epoch), learning rate 0.002. ``scale`` multiplies the initial weights. The optimizer's
    state is recorded. Replicates are fully independent.
    """
    inputs, tasks = _tasks(replicate, runs)

    def build() -> nn.Module:
        net = half_net(width)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(scale)
        return net

    return record(
        build, inputs, inputs * tasks, mean_square, optimizer, RATE, runs, steps,
        batch=BATCH, states=True, seed=replicate, per_run=True,
    )


def slopes(replicate: int, runs: int = 200) -> np.ndarray:
    """(runs,) the w* of each run of :func:`small_networks` in that replicate."""
    return _tasks(replicate, runs)[1].flatten().numpy()


def _tasks(replicate: int, runs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7_000_000 + replicate)
    inputs = torch.randn(runs, POINTS, 1, dtype=torch.float64, generator=generator)
    return inputs, torch.randn(runs, 1, 1, dtype=torch.float64, generator=generator)


def split_sizes(runs: int) -> tuple[int, int, int]:
    """Training, validation and test runs: a half, a quarter, the rest."""
    return runs // 2, runs // 4, runs - runs // 2 - runs // 4


def flow_options(forecaster: str, aware: str, scale: str) -> dict[str, Any]:
    """A flow's options for the experiment's ``aware`` and ``scale``; none for other forecasters."""
    name = forecaster.partition("/")[0]
    if name not in ("gfm", "affine-flow"):
        return {}
    state: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}
    context = "auto" if name == "gfm" else "prefix"
    return {"view": "coordinate", "conditioning": Conditioning(context, scale, state[aware])}


def losses_at(weights: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """(runs,) expected squared error of 1-10-1 networks over x ~ N(0, 1), task y = slope x.

    It is computed by 64-point Gauss-Hermite quadrature.

    Args:
        weights: (runs, parameters).
        slopes: (runs,).
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(64)
    x = torch.from_numpy(nodes)[:, None]
    net = half_net()
    out = np.empty(len(weights))
    for run, flat in enumerate(torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float64))):
        torch.nn.utils.vector_to_parameters(flat, net.parameters())
        with torch.no_grad():
            wrong = (net(x) - float(slopes[run]) * x).numpy()[:, 0]
        out[run] = np.square(wrong) @ masses / masses.sum()
    return out


@dataclass(frozen=True)
class NetworkForecast(Experiment):
    """Test error of the weights of 31-weight networks at every step after step 20.

    Arrays: errors, hold (replicates, 180); losses (replicates, 3) expected loss (:func:`losses_at`), median over
    runs, at the weights of step 20, the forecast weights and the true weights of step 200. Info: seconds,
    parameters, epochs, notes by replicate.

    Args:
        forecaster: its name.
        aware: ``"auto"``, ``"yes"`` or ``"no"``: whether a flow or a sequence model uses the optimizer's state.
            For a sequence model ``"auto"`` means no, and training as its class has it by default.
        scale: the flow's unit of a run's coordinates.
        replicates: how many, from number ``first`` on; independent in tasks, data, initial weights, batches and
            training.
        epochs: maximum number of epochs; None for the forecaster's own.
        over_affine: whether the forecaster forecasts the residuals of the affine flow.
    """

    name: ClassVar[str] = "gfm/networks"

    forecaster: str = "hold"
    optimizer: str = "Adam"
    replicates: int = 3
    first: int = 0
    aware: str = "auto"
    scale: str = "auto"
    epochs: int | None = None
    over_affine: bool = False
    runs: int = 200

    def compute(self, context: Context) -> Result:
        """Fit and forecast each replicate in turn."""
        errors, holds, losses = [], [], []
        info: dict[str, list] = {"seconds": [], "parameters": [], "epochs": [], "notes": []}
        for replicate in range(self.first, self.first + self.replicates):
            data = small_networks(self.optimizer, replicate, self.runs)
            train, validation, test = data.split(*split_sizes(self.runs))
            options = flow_options(self.forecaster, self.aware, self.scale)
            if (self.forecaster, self.aware) in RATES:
                training = replace(SEQUENCE, rate=RATES[self.forecaster, self.aware])
                options = {"optimizer_state": self.aware == "yes", "training": training}
            model = make_forecaster(
                self.forecaster, OBSERVED, self.epochs, seed=replicate, over_affine=self.over_affine, **options
            )
            add_report(info, model.fit(train, validation=validation, device=context.device()))
            truth = test.weights[:, OBSERVED + 1 :]
            forecast = model.forecast(test.prefix(OBSERVED))
            errors.append(np.square(forecast - truth).mean(axis=(0, 2)))
            hold = test.weights[:, [OBSERVED]]
            holds.append(np.square(hold - truth).mean(axis=(0, 2)))
            tasks = slopes(replicate, self.runs)[-test.runs :]
            at = (hold[:, 0], forecast[:, -1], truth[:, -1])
            losses.append([np.median(losses_at(weights, tasks)) for weights in at])
            context.progress(replicate + 1 - self.first, self.replicates)
        return Result(
            {"errors": np.array(errors), "hold": np.array(holds), "losses": np.array(losses)},
            {**info, "title": model.title},
        )
