"""Nowcasters of whole networks: WNN+ (weight by weight) and a NiNo-style one (over neurons)."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gfm.checks import MOST, whole
from gfm.errors import InputError
from gfm.forecasters.direct import DirectForecaster
from gfm.forecasting.base import register
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training
from gfm.trajectories import Trajectories
from gfm.trajectories.arrays import as_array

__all__ = ["NiNoStyle", "WNNPlus"]

STATES = 5
MARKS = 40
DENSE, KERNEL, BIAS = 0, 1, 2  # types of layers' tensors; BIAS is also a norm's scale


class _Nowcaster(nn.Module):
    """From five states of every weight to its values at forty future times, relative to the last state.

    Values are standardised over the run's weights and the five states. The layers take and return ``places`` weights
    at a time.
    """

    columns: Tensor
    low: Tensor
    share: Tensor

    def __init__(self, n: int, horizon: int, width: int, places: int = 1) -> None:
        super().__init__()
        self.register_buffer("columns", torch.linspace(0, n, STATES).round().long())
        marks = torch.linspace(0, horizon, MARKS + 1)[1:]
        self.register_buffer("low", (torch.arange(1, horizon + 1) / horizon * MARKS).ceil().long() - 1)
        self.register_buffer("share", 1 - (marks[self.low] - torch.arange(1, horizon + 1)) / (horizon / MARKS))
        self.entry = nn.Linear(places * STATES, width)
        out = places * MARKS
        self.head = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, out)
        )
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(runs, parameters, n+1) -> (runs, parameters, horizon)."""
        states = x[..., self.columns]
        mean, size = self._scale(states)
        marks = self._marks((states - mean) / size)
        marks = torch.cat([torch.zeros_like(marks[..., :1]), marks], dim=-1)
        steps = (1 - self.share) * marks[..., self.low] + self.share * marks[..., self.low + 1]
        return x[..., -1:] + size * steps

    def _scale(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of (runs, parameters, 5) states, each (runs, 1, 1)."""
        return states.mean(dim=(1, 2), keepdim=True), states.std(dim=(1, 2), keepdim=True) + 1e-8

    def _marks(self, z: Tensor) -> Tensor:
        """(runs, parameters, 5) standardised states -> (runs, parameters, 40) standardised displacements."""
        return self.head(self.entry(z))


class _NeuronNowcaster(_Nowcaster):
    """A ``_Nowcaster`` with messages between the edges of a neuron, and with values standardised per tensor.

    The weights of a tensor between the same two neurons (a kernel) are one edge. Every edge has as many places as the
    largest edge has weights; places without a weight are zero in the input and left out of the result. In each of three
    rounds every edge receives the means over the edges of both its neurons.

    Args:
        n, horizon, width: as for ``_Nowcaster``.
        graph: (parameters, 2) the neurons that each weight connects (from, to); None if they are unknown: all weights
            are then edges from one neuron to itself.
        tensor: (parameters,) number of the weight's tensor.
        kinds: (tensors,) their types.
    """

    tensor: Tensor
    values: Tensor
    edges: Tensor
    kind: Tensor
    slot: Tensor
    degree: Tensor

    def __init__(
        self, n: int, horizon: int, width: int, graph: np.ndarray | None, tensor: np.ndarray, kinds: np.ndarray
    ) -> None:
        owner, edges, edge, place = _kernels(graph, tensor)
        self.places = int(place.max()) + 1
        super().__init__(n, horizon, width, self.places)
        self.register_buffer("tensor", torch.from_numpy(tensor))
        self.register_buffer("values", STATES * torch.bincount(self.tensor))
        self.register_buffer("edges", torch.from_numpy(edges))
        self.register_buffer("kind", torch.from_numpy(kinds[owner]))
        self.register_buffer("slot", torch.from_numpy(edge * self.places + place))
        self.register_buffer("degree", torch.bincount(self.edges.flatten()).to(torch.float32))
        self.kinds = nn.Embedding(3, width)
        nn.init.zeros_(self.kinds.weight)  # torch's default is larger than the features that it is added to
        # The five states of a weight are almost equal. Some hundred training steps are enough only if the first layer
        # is initialised to take the first state and the increments, enlarged.
        increments = torch.eye(STATES) - torch.diag(torch.ones(STATES - 1), -1)
        increments[1:] *= 5.0
        with torch.no_grad():
            self.entry.weight.copy_((self.entry.weight.view(width, -1, STATES) @ increments).flatten(1))
        self.messages = nn.ModuleList(nn.Sequential(nn.Linear(3 * width, width), nn.SiLU()) for _ in range(3))

    def _scale(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every weight's tensor, each (runs, parameters, 1)."""
        mean = (self._sums(states) / self.values).to(states.dtype)[:, self.tensor, None]
        variance = self._sums((states - mean).square()) / (self.values - 1)
        return mean, variance.sqrt().to(states.dtype)[:, self.tensor, None] + 1e-8

    def _sums(self, values: Tensor) -> Tensor:
        """(runs, parameters, 5) -> (runs, tensors), in double precision: a tensor may have millions of weights."""
        sums = torch.zeros(len(values), len(self.values), dtype=torch.float64, device=values.device)
        return sums.scatter_add_(1, self.tensor.expand(len(values), -1), values.sum(2, dtype=torch.float64))

    def _marks(self, z: Tensor) -> Tensor:
        places = z.new_zeros(len(z), len(self.edges) * self.places, STATES)
        places[:, self.slot] = z
        h = self.entry(places.view(len(z), len(self.edges), -1)) + self.kinds(self.kind)
        for update in self.messages:
            h = h + update(torch.cat([h, *self._ends(h)], dim=-1))
        return self.head(h).view(len(z), -1, MARKS).index_select(1, self.slot)

    def _ends(self, h: Tensor) -> list[Tensor]:
        """The features of the neurons at both ends of every edge, each a mean over the neuron's edges."""
        total = h.new_zeros(len(h), len(self.degree), h.shape[2])
        for side in (0, 1):
            total.index_add_(1, self.edges[:, side], h)
        mean = total / self.degree[:, None]
        return [mean.index_select(1, self.edges[:, side]) for side in (0, 1)]


def _kernels(graph: np.ndarray | None, tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights gathered into edges.

    Returns:
        (edges,) each edge's tensor, (edges, 2) its neurons, numbered without gaps, and for every weight
        (parameters,) its edge and (parameters,) its place there, in the order of the weights.
    """
    if graph is None:
        return tensor, np.zeros((len(tensor), 2), np.int64), np.arange(len(tensor)), np.zeros_like(tensor)
    rows, edge, counts = np.unique(np.column_stack([tensor, graph]), axis=0, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)  # its shape is different in NumPy 2.0
    order = np.argsort(edge, kind="stable")
    place = np.empty_like(edge)
    place[order] = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.unique(rows[:, 1:], return_inverse=True)[1].reshape(-1, 2)
    return rows[:, 0], ends, edge, place


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
        self.width = whole("width", width, 1, MOST)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        if self.n + 1 < STATES:
            raise InputError(f"{self.name!r} needs at least {STATES} observed states.")
        super()._fit(train, validation, report)

    def _module(self) -> nn.Module:
        return _Nowcaster(self.n, self.horizon, self.width)


@register
class NiNoStyle(WNNPlus):
    """WNN+ with message passing: a weight belongs to an edge between two neurons and sees their other edges.

    A kernel is one edge: all weights of a tensor between the same two channels are forecast together. Edges know
    the type of their layer (dense, convolution, bias or norm) by a learned embedding, and values are standardised per
    tensor: by mean and standard deviation over its weights and the five states of a run.

    The graph is given by the trajectories' ``meta["edges"]``, a list of (from, to) neuron numbers per weight (a
    bias is an edge from a neuron of its own); without it all weights of a run share one neuron. Tensors and types are
    those of the layout. Without one, each label in the groups is a tensor; its type is then guessed from its name
    (biases) and from its number of weights per edge (several: a convolution). Without labels there is one tensor.

    The published model has Laplacian positions of the neurons as further inputs and 128 for ``width``, was trained on
    hundreds of large runs of several tasks, and is used every 1,000 steps, without a test of its jumps. This one is
    trained on a few small runs of one kind, for jumps of some tens of steps. For these few to suffice, its first layer
    is initialised to take the increments between states.
    """

    name = "nino"
    title = "NiNo-style"
    source = "after Knyazev et al. 2025, arXiv 2409.04434"
    coordinatewise = False
    defaults = replace(WNNPlus.defaults, rate=1e-3)

    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        self.graph = _graph(train)
        self.tensor, self.kinds = _types(train, self.graph)
        super()._fit(train, validation, report)

    def _module(self) -> nn.Module:
        return _NeuronNowcaster(self.n, self.horizon, self.width, self.graph, self.tensor, self.kinds)


def _graph(data: Trajectories) -> np.ndarray | None:
    """(parameters, 2) the neurons of every weight; None if they are not known."""
    edges = data.meta.get("edges")
    if edges is None:
        return None
    graph = as_array(edges, "meta['edges']")
    if graph.shape != (data.parameters, 2) or graph.dtype.kind not in "iu" or graph.min() < 0:
        raise InputError(f"meta['edges'] must hold two neuron numbers for each of {data.parameters} weights.")
    return graph.astype(np.int64)


def _types(data: Trajectories, graph: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(parameters,) the number of every weight's tensor, and (tensors,) their types."""
    if data.layout is not None:
        types = [BIAS if len(shape) < 2 else DENSE if len(shape) == 2 else KERNEL for shape in data.layout.shapes]
        return np.repeat(np.arange(len(types)), data.layout.sizes), np.array(types)
    labels = data.groups or [""] * data.parameters
    names, tensor = np.unique(labels, return_inverse=True)
    owner, _, edge, _ = _kernels(graph, tensor)
    kinds = np.full(len(names), DENSE)
    if data.groups is not None:  # otherwise the one tensor holds layers of all types
        kinds[owner[np.bincount(edge) > 1]] = KERNEL
        kinds[["bias" in name.rpartition(".")[2] for name in names]] = BIAS
    return tensor, kinds
