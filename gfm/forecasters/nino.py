"""Nowcasters of whole networks: WNN+ (weight by weight) and a NiNo-style one (over neurons)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.training import Training
from gfm.trajectories import Trajectories

__all__ = ["NiNoStyle", "WNNPlus"]

STATES = 5
MARKS = 40


class _Nowcaster(nn.Module):
    """From five states of every weight to its values at forty future times, relative to the last state.

    Values are standardised over the run's weights and the five states. With ``edges`` every weight is
    an edge between two neurons, and three rounds of mean message passing let it see its neighbours.
    """

    columns: Tensor
    low: Tensor
    share: Tensor
    edges: Tensor
    degree: Tensor

    def __init__(self, n: int, horizon: int, width: int, edges: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("columns", torch.linspace(0, n, STATES).round().long())
        marks = torch.linspace(0, horizon, MARKS + 1)[1:]
        self.register_buffer("low", (torch.arange(1, horizon + 1) / horizon * MARKS).ceil().long() - 1)
        self.register_buffer("share", 1 - (marks[self.low] - torch.arange(1, horizon + 1)) / (horizon / MARKS))
        self.register_buffer("edges", edges)
        if edges is not None:
            degree = torch.bincount(edges.flatten()).clamp_min(1).to(torch.float32)
            self.register_buffer("degree", degree)
        self.entry = nn.Linear(STATES, width)
        rounds = 0 if edges is None else 3
        self.messages = nn.ModuleList(nn.Sequential(nn.Linear(3 * width, width), nn.SiLU()) for _ in range(rounds))
        self.head = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, MARKS)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(runs, parameters, n+1) -> (runs, parameters, horizon)."""
        states = x[..., self.columns]
        mean = states.mean(dim=(1, 2), keepdim=True)
        size = states.std(dim=(1, 2), keepdim=True) + 1e-8
        h = self.entry((states - mean) / size)
        for update in self.messages:
            h = h + update(torch.cat([h, *self._ends(h)], dim=-1))
        marks = torch.cat([torch.zeros_like(h[..., :1]), self.head(h)], dim=-1)
        steps = (1 - self.share) * marks[..., self.low] + self.share * marks[..., self.low + 1]
        return x[..., -1:] + size * steps

    def _ends(self, h: Tensor) -> list[Tensor]:
        """The features of the neurons at both ends of every edge, each a mean over the neuron's edges."""
        total = h.new_zeros(len(h), len(self.degree), h.shape[2])
        for side in (0, 1):
            total.index_add_(1, self.edges[:, side], h)
        mean = total / self.degree[:, None]
        return [mean.index_select(1, self.edges[:, side]) for side in (0, 1)]


@register
class WNNPlus(DirectForecaster):
    """WNN+: a linear layer from 5 states to ``width``, then a three-layer MLP to 40 horizons; L1 loss.

    The outputs are relative to the last state.
    """

    name = "wnn-plus"
    title = "WNN+"
    source = "Knyazev et al. 2025, arXiv 2409.04434 (its graph-free baseline)"
    loss = "l1"
    per_series = False
    defaults = Training(rate=3e-3, batch=32, epochs=2000, patience=40, decay=1e-2)

    def __init__(self, observed: int | None = None, training: Training | None = None, width: int = 64) -> None:
        super().__init__(observed, training)
        if width < 1:
            raise InputError(f"width must be at least 1; got {width}.")
        self.width = width

    def _edges(self) -> Tensor | None:
        return None

    def _module(self) -> nn.Module:
        if self.n + 1 < STATES:
            raise InputError(f"{self.name!r} needs at least {STATES} observed states.")
        return _Nowcaster(self.n, self.horizon, self.width, self._edges())


@register
class NiNoStyle(WNNPlus):
    """WNN+ with message passing: a weight is an edge between two neurons and sees their other edges.

    The graph is given by the trajectories' ``meta["edges"]``, a list of (from, to) neuron numbers per weight (a
    bias is an edge from a neuron of its own); without it all weights of a run share one neuron. The published
    model has further edge features, layer types and Laplacian positions, and was trained on hundreds of large
    runs; this one only shows the idea.
    """

    name = "nino"
    title = "NiNo-style"
    source = "after Knyazev et al. 2025, arXiv 2409.04434"
    coordinatewise = False
    defaults = replace(WNNPlus.defaults, rate=1e-3)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report) -> None:
        edges = train.meta.get("edges")
        p = train.parameters
        self.graph = np.zeros((p, 2), dtype=np.int64) if edges is None else np.asarray(edges)
        if self.graph.shape != (p, 2) or self.graph.min() < 0:
            raise InputError(f"meta['edges'] must hold two neuron numbers for each of {p} weights.")
        super()._fit(train, validation, report)

    def _edges(self) -> Tensor | None:
        return torch.from_numpy(self.graph.astype(np.int64))
