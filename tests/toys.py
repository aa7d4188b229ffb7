"""Small problems that several tests share. Everything in float64 and seeded."""

import numpy as np
import torch
from torch import nn

import gfm
from gfm.central import Run, Series


def tiny_net(dtype: torch.dtype = torch.float64, seed: int = 0, outputs: int = 1, width: int = 16) -> nn.Module:
    """An 8-width-width-outputs network with GELU: 433 weights for one output and width 16."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(8, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs)
        )
    return net.to(dtype)


def tiny_data(n: int = 128, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth scalar function of eight standard normal inputs."""
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    return x.to(dtype), y.to(dtype)


def tiny_problem(dtype: torch.dtype = torch.float64, width: int = 16, **options) -> gfm.Problem:
    return gfm.Problem(tiny_net(dtype, width=width), *tiny_data(dtype=dtype), **options)


class Quadratic(nn.Module):
    """Outputs whose half mean square is w^T diag(h) w / 2 for one example and target zero."""

    def __init__(self, h: list[float], w: list[float]):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.register_buffer("root", torch.tensor(h, dtype=torch.float64).sqrt())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.root * self.w).reshape(len(x), -1)


def quadratic(h: list[float], w: list[float]) -> gfm.Problem:
    one = torch.ones(1, 1, dtype=torch.float64)
    return gfm.Problem(Quadratic(h, w), one, torch.zeros(1, len(h), dtype=torch.float64))


PERIOD, FIRST = 40, 100  # steps of a cycle; where the run first passes the edge


def tops(steps: int) -> np.ndarray:
    """Rises to 2 at step FIRST, then swings around it once every PERIOD steps."""
    t = np.arange(steps + 1)
    return np.where(t < FIRST, 1.0 + t / FIRST, 2.0 + 0.2 * np.sin(2 * np.pi * (t - FIRST) / PERIOD))


def edge_run(steps: int = 600, settings: dict | None = None, **central) -> Run:
    """A run whose loss swings by half around the flow's prediction; the flow is at the edge from step FIRST."""
    t = np.arange(steps + 1)
    mean = np.exp(-t / 100)
    swing = 1 + 0.5 * np.sin(2 * np.pi * t / PERIOD)
    edge = t >= FIRST
    sigma = np.where(edge, mean, np.nan)[:, None]
    flow_series = {
        "loss": 0.8 * mean, "predicted_loss": mean, "eigenvalues": np.where(edge, 2.0, 1.5)[:, None], "sigma": sigma,
        "displacement": np.sqrt(sigma * swing[:, None]),
    } | central
    discrete = {"loss": mean * swing, "eigenvalues": tops(steps)[:, None]}
    settings = {"threshold": 2.0, "lr": 0.1} | (settings or {})
    return Run({"discrete": Series(discrete), "central": Series(flow_series)}, {}, settings, {})
