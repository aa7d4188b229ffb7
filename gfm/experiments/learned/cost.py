"""What a forecast costs, in operations and seconds, compared with further training."""

import ctypes
import gc
import re
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gfm.checks import counts
from gfm.errors import InputError
from gfm.experiments.learned.least_squares import make_forecaster
from gfm.forecasting.base import Forecaster
from gfm.matching import AffineFlow, GradientFlowMatching
from gfm.matching.field import numbers_in
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories, edges_of

__all__ = ["ForecastCost", "TrainingCost", "grown", "image_net", "training_operations"]

CHANNELS = (16, 32, 32)
"""Of the small network; (32, 64, 140) has 101,006 weights."""


def image_net(channels: tuple[int, int, int] = CHANNELS, classes: int = 10, inputs: int = 1) -> nn.Sequential:
    """Three 3x3 convolutions with ReLU, the first two followed by pooling, then a spatial mean and a linear layer.

    14,378 weights for one input channel and ten classes, 14,666 for three, as in NiNo's smallest networks.

    Raises:
        InputError: ``channels`` are not three whole numbers of at least 1.
    """
    if len(counts("channels", channels)) != 3:
        raise InputError(f"channels must be three numbers, one for each convolution, but they are {channels!r}.")
    a, b, c = channels
    return nn.Sequential(
        nn.Conv2d(inputs, a, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(c, classes),
    )


def training_operations(size: int, batch: int, channels: tuple[int, int, int] = CHANNELS) -> int:
    """Multiplications and additions of one training step: three times those of a forward pass."""
    total, places = 0, size * size
    for layer in image_net(channels):
        if isinstance(layer, nn.Conv2d):
            total += layer.weight.numel() * places
        elif isinstance(layer, nn.AvgPool2d):
            places //= 4
        elif isinstance(layer, nn.Linear):
            total += layer.weight.numel()
    return 3 * 2 * batch * total


def grown(work: Callable[[], object]) -> int | None:
    """Bytes by which this process's peak resident memory grows while ``work`` runs (None except on Linux)."""
    status = Path("/proc/self/status")

    def now(name: str) -> int:
        found = re.search(rf"{name}:\s*(\d+) kB", status.read_text())
        if found is None:
            raise OSError(f"{status} does not tell {name}")
        return 1024 * int(found[1])

    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # otherwise reused memory would not be counted
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = now("VmRSS")
    except (OSError, AttributeError):
        return None
    work()
    return max(now("VmHWM") - before, 0)


@dataclass(frozen=True)
class ForecastCost(Experiment):
    """A fit on synthetic runs of exponentials, and timed forecasts of an image network's weights.

    The fit uses 60 runs of 8 weights, or 6 of the whole network for forecasters that treat all weights together.

    Info: parameters, fit (seconds), forecast (seconds of the fastest of five: other work on the machine only adds),
    memory (peak bytes of the forecast, including its result; None if the system does not report it), operations
    (multiplications and additions for the forecast of the last state, from the shapes; None if not counted), weights,
    and result (bytes of the forecast).
    """

    name: ClassVar[str] = "gfm/cost"

    forecaster: str = "gfm/coordinate"
    channels: tuple[int, int, int] = CHANNELS
    observed: int = 20
    steps: int = 200
    epochs: int = 10
    repeats: int = 5

    @property
    def weights(self) -> int:
        """Number of weights of the network."""
        return sum(p.numel() for p in image_net(self.channels).parameters())

    def compute(self, context: Context) -> Result:
        """Fit once and time five forecasts of the whole network."""
        rng = np.random.default_rng(0)
        model = make_forecaster(self.forecaster, self.observed, self.epochs)
        count, width = (60, 8) if model.coordinatewise else (6, self.weights)
        rate = rng.uniform(0.005, 0.05, size=(count, 1, width))
        t = np.arange(self.steps + 1)[None, :, None]
        runs = rng.normal(size=(count, 1, width)) * (1 - rate) ** t + rng.normal(size=(count, 1, width))
        runs += 0.002 * np.cumsum(rng.normal(size=runs.shape), axis=1)
        data = Trajectories(runs, meta={} if model.coordinatewise else {"edges": edges_of(image_net(self.channels))})
        train, val = data.split(2 * count // 3, count // 3)
        model.fit(train, val)
        shape = (1, self.observed + 1, self.weights)
        prefix = rng.normal(size=shape) + 0.01 * np.cumsum(rng.normal(size=shape), axis=1)
        memory = grown(lambda: model.forecast(prefix))
        seconds = timeit.repeat(lambda: model.forecast(prefix), number=1, repeat=self.repeats)
        context.progress(1, 1)
        info = {
            "title": model.title,
            "parameters": int(model.fitted.parameters),
            "fit": model.fitted.seconds,
            "forecast": min(seconds),
            "memory": memory,
            "weights": self.weights,
            "result": 8 * self.weights * (self.steps - self.observed),
            "operations": self._operations(model),
        }
        return Result({"seconds": np.array(seconds)}, info)

    def _operations(self, model: Forecaster) -> int | None:
        horizon, features = self.steps - self.observed, self.observed + 2
        if self.forecaster == "hold":
            return 0
        if self.forecaster == "ols":
            return 2 * self.weights * (self.observed + 2)  # for the last state only
        if isinstance(model, AffineFlow):
            drive = 0 if model.fitted.notes["ridge"] == np.inf else 2 * features * horizon
            return self.weights * (drive + 4 * horizon)
        if isinstance(model, GradientFlowMatching):  # one pass of the network; then interpolation and a step
            return self.weights * (2 * numbers_in(model.flow.network) + 12 * horizon)
        return None


@dataclass(frozen=True)
class TrainingCost(Experiment):
    """Seconds of the fastest of some training steps (AdamW) of an image network.

    Info: step (seconds), operations.
    """

    name: ClassVar[str] = "gfm/training-cost"

    size: int = 28
    batch: int = 128
    channels: tuple[int, int, int] = CHANNELS
    steps: int = 12

    def compute(self, context: Context) -> Result:
        """Time ``steps`` training steps on random images."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, 1, self.size, self.size, generator=generator)
        y = torch.randint(10, (self.batch,), generator=generator)
        net = image_net(self.channels)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

        seconds = timeit.repeat(step, number=1, repeat=self.steps)
        context.progress(1, 1)
        info = {"step": min(seconds[2:]), "operations": training_operations(self.size, self.batch, self.channels)}
        return Result({"seconds": np.array(seconds)}, info)
