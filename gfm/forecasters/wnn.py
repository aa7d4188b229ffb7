"""Weight nowcaster network (WNN): from five past values of a weight to one about a window later."""

import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.forecasters.iterated import IteratedForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["WNN"]

WINDOW = 5


class _Stream(nn.Module):
    """A dense layer of 64, a gate computed from it, and a dense layer of 32."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.first, self.narrow = nn.Linear(length, 64), nn.Linear(64, 8)
        self.plain, self.gated, self.gate = nn.Linear(8, 64), nn.Linear(8, 64), nn.Linear(8, 64)
        self.last = nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        c = torch.relu(self.narrow(h))
        mixed = self.plain(c) + self.gated(c) * torch.exp((self.gate(c) * h).clamp(-10, 10))
        return nn.functional.leaky_relu(self.last(mixed))


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.values, self.differences = _Stream(WINDOW), _Stream(WINDOW - 1)
        self.out = nn.Linear(64, 1)

    def forward(self, window: Tensor) -> Tensor:
        """From (series, 5) values to the value one window later, (series, 1), both as plain weights."""
        first = window[:, :1]
        reach = window.amax(1, keepdim=True) - window.amin(1, keepdim=True)
        unit = 2 * (reach + 1e-5)
        z = (window - first) / unit
        streams = torch.cat([self.values(z), self.differences(z.diff(dim=1))], dim=1)
        # The published bias network adds the raw last value and undoes a factor twice; here neither is done.
        return (z[:, -1:] + torch.tanh(self.out(streams))) * unit + first


@register
class WNN(IteratedForecaster):
    """From the window w_{t-4s}, ..., w_t (s is a quarter of the prefix) to w_{t+5s}; L1 loss.

    One network serves all weights; the published method has three, by kind of layer.
    """

    name = "wnn"
    title = "WNN"
    source = "Jang et al. 2023 (ICML)"
    defaults = Training(rate=1e-3, batch=32, epochs=2000, patience=40)

    def _network(self, series: Tensor) -> nn.Module:
        stride = self.n // (WINDOW - 1)
        if stride < 1:
            raise InputError(f"'wnn' needs at least {WINDOW} observed states.")
        self.back = torch.arange(WINDOW - 1, -1, -1) * stride
        self.ahead = min(WINDOW * stride, self.horizon)
        return _Net()

    def _loss(self, series: Tensor, generator: torch.Generator) -> Tensor:
        series = series.repeat(4, 1)
        reach, last = int(self.back[0]), series.shape[1] - 1 - self.ahead
        t = torch.randint(reach, last + 1, (len(series), 1), generator=generator)
        window, later = (t - self.back).to(series.device), (t + self.ahead).to(series.device)
        return (self.net(series.gather(1, window)) - series.gather(1, later)).abs().mean()

    def _next(self, series: Tensor) -> tuple[Tensor, int]:
        return self.net(series[:, series.shape[1] - 1 - self.back]), self.ahead
