"""Forecasting the small networks: one forecaster, one optimizer, some replicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from gfm.experiments.learned.least_squares import make_forecaster
from gfm.experiments.learned.networks import half_net, slopes, small_networks
from gfm.matching import Conditioning
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["OBSERVED", "NetworkForecast", "flow_options", "losses_at", "split_sizes"]

OBSERVED = 20


def split_sizes(runs: int) -> tuple[int, int, int]:
    """Training, validation and test runs: a half, a quarter, the rest."""
    return runs // 2, runs // 4, runs - runs // 2 - runs // 4


def flow_options(forecaster: str, aware: str, scale: str) -> dict[str, Any]:
    """Options of the learned flow in plain words; none for other forecasters."""
    if not forecaster.startswith("gfm"):
        return {}
    state: dict[str, bool | str] = {"auto": "auto", "yes": True, "no": False}
    return {"conditioning": Conditioning(optimizer_state=state[aware], scale=scale)}


def losses_at(weights: np.ndarray, slopes: np.ndarray, width: int = 10) -> np.ndarray:
    """(runs,) expected squared error of 1-width-1 networks over x ~ N(0, 1), task y = slope x.

    weights: (runs, parameters). By 64-point Gauss-Hermite quadrature.
    """
    nodes, masses = np.polynomial.hermite_e.hermegauss(64)
    x = torch.from_numpy(nodes)[:, None]
    net = half_net(width)
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

    forecaster: its name; aware: ``"auto"``, ``"yes"`` or ``"no"`` for the flow's use of the optimizer's
    state; scale: its unit of a run's coordinates. replicates: from number ``first`` on, independent in
    tasks, data, initial weights, batches and training. epochs: cap on training, None = its own.

    Arrays: errors, hold (replicates, 180); losses (replicates, 3) expected loss (:func:`losses_at`) at the
    weights of step 20, the forecast ones and the true ones of step 200, median over runs. Info:
    seconds, parameters, epochs, notes by replicate.
    """

    name: ClassVar[str] = "gfm/networks"

    forecaster: str = "hold"
    optimizer: str = "Adam"
    replicates: int = 3
    first: int = 0
    aware: str = "auto"
    scale: str = "auto"
    epochs: int | None = None
    runs: int = 200

    def compute(self, context: Context) -> Result:
        """Fit and forecast each replicate in turn."""
        errors, holds, losses = [], [], []
        info: dict[str, list] = {"seconds": [], "parameters": [], "epochs": [], "notes": []}
        for replicate in range(self.first, self.first + self.replicates):
            data = small_networks(self.optimizer, replicate, self.runs)
            train, validation, test = data.split(*split_sizes(self.runs))
            options = flow_options(self.forecaster, self.aware, self.scale)
            model = make_forecaster(
                self.forecaster, OBSERVED, self.epochs, seed=replicate, **options
            )
            model.fit(train, validation=validation)
            truth = test.weights[:, OBSERVED + 1 :]
            forecast = model.forecast(test.prefix(OBSERVED))
            errors.append(np.square(forecast - truth).mean(axis=(0, 2)))
            hold = test.weights[:, [OBSERVED]]
            holds.append(np.square(hold - truth).mean(axis=(0, 2)))
            tasks = slopes(replicate, self.runs)[-test.runs :]
            at = (hold[:, 0], forecast[:, -1], truth[:, -1])
            losses.append([np.median(losses_at(weights, tasks)) for weights in at])
            for key in ("seconds", "parameters", "epochs"):
                info[key].append(getattr(model.report, key))
            info["notes"].append({k: str(v) for k, v in model.fitted.notes.items()})
            context.progress(replicate + 1 - self.first, self.replicates)
        return Result(
            {"errors": np.array(errors), "hold": np.array(holds), "losses": np.array(losses)},
            {**info, "title": model.title},
        )
