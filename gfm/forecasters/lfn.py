"""LFN: one linear layer from all observed states to all later ones, trained with L1."""

from __future__ import annotations

from torch import nn

from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training

__all__ = ["LFN"]


@register
class LFN(DirectForecaster):
    """y = A x + b with x = (w_0, ..., w_n), y = (w_{n+1}, ...), shared by all weights; L1, Adam 0.005.

    The published recipe stops after 5 epochs without a better validation loss, which is at times far
    too early; the patience here is 50.
    """

    name = "lfn"
    title = "LFN"
    source = "Shou et al. 2025, arXiv 2505.02714"
    loss = "l1"
    defaults = Training(rate=5e-3, batch=32, epochs=1000, patience=50)

    def _module(self) -> nn.Module:
        return nn.Linear(self.n + 1, self.horizon)
