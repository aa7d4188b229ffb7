"""Recorded networks: the 31-weight regression network under four optimizers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from gfm.trajectories import Trajectories, record

__all__ = ["half_net", "mean_square", "slopes", "small_networks"]

WIDTH = 10
POINTS = 100
BATCH = 64
RATE = 0.002


def half_net(width: int = WIDTH) -> nn.Module:
    """1-width-1 with ReLU and biases (31 weights at width 10), float64."""
    return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1)).double()


def mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples and outputs of the squared difference."""
    return (outputs - targets).square().mean()


@lru_cache(maxsize=24)  # every forecaster of a table asks for the same runs
def small_networks(
    optimizer: str = "SGD",
    replicate: int = 0,
    runs: int = 200,
    steps: int = 200,
    width: int = WIDTH,
    scale: float = 1.0,
    lr: float = RATE,
) -> Trajectories:
    """Runs of the regression network of the code of arXiv 2505.02714, names put right and seeded.

    Every run has its own 100 points x ~ N(0, 1), y = w* x with w* ~ N(0, 1); mini-batches of 64 (two
    steps an epoch), learning rate 0.002. scale multiplies the initial weights (another law). The
    optimizer's state is recorded. Replicates are independent in everything.
    """
    inputs, tasks = _tasks(replicate, runs)

    def build() -> nn.Module:
        net = half_net(width)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(scale)
        return net

    return record(
        build, inputs, inputs * tasks, mean_square, optimizer, lr, runs, steps,
        batch=BATCH, states=True, seed=replicate,
    )


def slopes(replicate: int, runs: int = 200) -> np.ndarray:
    """(runs,) the w* of each run of :func:`small_networks` of that replicate."""
    return _tasks(replicate, runs)[1].flatten().numpy()


def _tasks(replicate: int, runs: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7_000_000 + replicate)
    inputs = torch.randn(runs, POINTS, 1, dtype=torch.float64, generator=generator)
    return inputs, torch.randn(runs, 1, 1, dtype=torch.float64, generator=generator)
