"""A neural ODE: the same kind of field as GFM's, trained through the solver instead of matched."""

import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["NeuralODE"]

STEPS = 20


class _Flow(nn.Module):
    """dx/dt = f(x, t, c) from x = 0 at the last observed state; c: the prefix relative to it, and its value."""

    unit: Tensor
    times: Tensor
    low: Tensor
    share: Tensor

    def __init__(self, length: int, horizon: int, width: int) -> None:
        super().__init__()
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("times", torch.linspace(0, 1, STEPS + 1))
        place = torch.arange(1, horizon + 1) / horizon * STEPS
        self.register_buffer("low", place.ceil().long() - 1)
        self.register_buffer("share", place - self.low)
        self.field = nn.Sequential(
            nn.Linear(length + 2, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]
        context = torch.cat([(x[:, :-1] - last) / self.unit, last], dim=1)

        def velocity(t: Tensor, state: Tensor) -> Tensor:
            return self.field(torch.cat([state, t.expand_as(state), context], dim=1))

        states = odeint(velocity, torch.zeros_like(last), self.times, method="midpoint")[..., 0].T
        between = (1 - self.share) * states[:, self.low] + self.share * states[:, self.low + 1]
        return last + self.unit * between


@register
class NeuralODE(DirectForecaster):
    """v(x, t | prefix), two layers of 64, fitted to recorded states through 20 midpoint steps; squared loss."""

    name = "neural-ode"
    title = "Neural ODE"
    source = "Chen et al. 2018, arXiv 1806.07366; settings ours"
    defaults = Training(rate=1e-2, batch=32, epochs=1000, patience=30)

    def _module(self) -> nn.Module:
        return _Flow(self.n + 1, self.horizon, 64)
