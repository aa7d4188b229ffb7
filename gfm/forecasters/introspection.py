"""Introspection: from four past values of a weight to its value at twice the time."""

import torch
from torch import Tensor, nn

from gfm.forecasters.iterated import IteratedForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["Introspection"]

SHARES = (1.0, 0.7, 0.4, 0.0)


def _at(series: Tensor, times: Tensor) -> Tensor:
    """(series, k) values at the fractional times (series, k), linear between states."""
    low = times.floor().long().clamp(0, series.shape[1] - 1)
    high = (low + 1).clamp_max(series.shape[1] - 1)
    share = times - low
    return (1 - share) * series.gather(1, low) + share * series.gather(1, high)


@register
class Introspection(IteratedForecaster):
    """f(w_t, w_0.7t, w_0.4t, w_0) = w_2t: one hidden layer of 40 units, L1 loss, times t drawn from 1..T/2.

    Weights that move most are drawn most often: half of a batch comes from the upper half by ``|w_t - w_0|``, a
    quarter from the next quarter, and a quarter from the rest. Values enter as differences from w_0 in units of
    their typical size (the published factor of 1000 is a fixed unit for small networks).
    """

    name = "introspection"
    title = "Introspection"
    source = "Sinha et al. 2017, arXiv 1704.04959"
    defaults = Training(rate=3e-3, batch=32, epochs=2000, patience=40)

    def _network(self, series: Tensor) -> nn.Module:
        self.unit = float((series - series[:, :1]).square().mean().sqrt()) or 1.0
        return nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 1))

    def _loss(self, series: Tensor, generator: torch.Generator) -> Tensor:
        latest = max((series.shape[1] - 1) // 2, 1)
        t = torch.randint(1, latest + 1, (len(series), 1), generator=generator).to(series.device)
        chosen = self._moving(series, t, generator)
        series, t = series[chosen], t[chosen]
        return ((self._step(series, t.float()) - _at(series, 2.0 * t)) / self.unit).abs().mean()

    @staticmethod
    def _moving(series: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
        """Indices of the drawn series, favouring those that moved most."""
        order = (series.gather(1, t) - series[:, :1]).abs().flatten().argsort(descending=True)
        count = len(order)
        parts = (order[: count // 2], order[count // 2 : 3 * count // 4], order[3 * count // 4 :])
        sizes = (count - 2 * (count // 4), count // 4, count // 4)
        drawn = [
            part[torch.randint(0, len(part), (size,), generator=generator)]
            for part, size in zip(parts, sizes, strict=True)
            if len(part) and size
        ]
        return torch.cat(drawn) if drawn else order

    def _step(self, series: Tensor, t: Tensor) -> Tensor:
        """(series, 1) forecast of the value at 2t from the values up to t."""
        start = series[:, :1]
        inputs = torch.cat([_at(series, share * t) for share in SHARES], dim=1)
        return inputs[:, :1] + self.unit * self.net((inputs - start) / self.unit)

    def _next(self, series: Tensor) -> tuple[Tensor, int]:
        t = series.shape[1] - 1
        return self._step(series, torch.full((len(series), 1), float(t), device=series.device)), t
