"""LFD-2: a linear layer from two observed states, with steps that must shrink."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["LFD2"]


class _Ends(nn.Module):
    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2, horizon)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, [0, -1]])


@register
class LFD2(DirectForecaster):
    """y = A (w_0, w_n) + b, L1, plus ``penalty`` times the mean of ``max(|step j+1| - |step j|, 0)``.

    The penalty stands for the first-order optimality condition: predicted steps shrink. Its published
    form was readable only in part and its weight is unknown, so both are our completion.
    """

    name = "lfd-2"
    title = "LFD-2"
    source = "Shou et al. 2025, arXiv 2505.02714; penalty completed by us"
    loss = "l1"
    defaults = Training(rate=5e-3, batch=32, epochs=1000, patience=50)

    def __init__(
        self,
        observed: int | None = None,
        training: Training | None = None,
        penalty: float = 0.1,
    ) -> None:
        super().__init__(observed, training)
        if penalty < 0:
            raise InputError(f"penalty must not be negative; got {penalty}.")
        self.penalty = penalty

    def _module(self) -> nn.Module:
        return _Ends(self.horizon)

    def _penalty(self, observed: Tensor, predicted: Tensor) -> Tensor | float:
        if predicted.shape[1] < 2 or self.penalty == 0:
            return 0.0
        path = torch.cat([observed[:, -1:], predicted], dim=1)
        steps = path.diff(dim=1).abs()
        return self.penalty * steps.diff(dim=1).clamp_min(0).mean()
