"""Descent along filtered gradients at the edge of stability: in a valley, on a network, and disturbed a little."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gfm.checks import number, whole
from gfm.errors import InputError
from gfm.experiments.central.valley import Valley, ValleyRun
from gfm.optimizers.stability import Edge, edge_of_stability, steady_excess
from gfm.randomness import seeding
from gfm.store.experiment import Context, Experiment, Result

__all__ = [
    "AVERAGED", "EXCESS", "FILTERS", "PROBLEMS", "FilterRuns", "Landscape", "Memories", "SmallDisturbances", "edge_of",
    "excess_of",
]

AVERAGED = 24
"""Steps over which weights are averaged before the sharpness is measured: whole periods of two, four, six and eight."""

EXCESS = 0.3
"""How far the lowest point of the valley lies beyond the edge, as the logarithm of the sharpness."""

Coefficients = tuple[float, ...]

#: Name -> coefficients n and d of the filter (n_0 + n_1 / z + ...) / (d_0 + d_1 / z + ...).
FILTERS: dict[str, tuple[Coefficients, Coefficients]] = {
    "gradient descent": ((1.0,), (1.0,)),
    "heavy ball, 0.5": ((1.0,), (1.0, -0.5)),
    "Nesterov, 0.9": ((1.9, -0.9), (1.0, -0.9)),
    "average as in Adam, 0.8": ((0.2,), (1.0, -0.8)),
    "looking ahead": ((2.0, -1.0), (1.0,)),
    "mean of the last two": ((0.5, 0.5), (1.0,)),
    "mean of the last four": ((0.25, 0.25, 0.25, 0.25), (1.0,)),
    "one step late": ((0.0, 1.0), (1.0,)),
}


def edge_of(name: str, decay: float = 0.0) -> Edge:
    """The edge of stability of one of ``FILTERS``."""
    return edge_of_stability(*FILTERS[name], decay)


def excess_of(name: str) -> float:
    """The excess up to which one of ``FILTERS`` holds the edge of a valley steadily."""
    return steady_excess(*FILTERS[name])


class Memories:
    """The memory of filters, one for each row of the weights (rows, p)."""

    def __init__(self, filters: Sequence[tuple[Coefficients, Coefficients]], w: Tensor):
        longest = max(len(x) for pair in filters for x in pair)
        self.n, self.d = (  # (longest, rows, 1), for d_0 = 1
            torch.tensor([[*x, *[0.0] * (longest - len(x))] for x in part], dtype=w.dtype).T[..., None]
            for part in zip(*(([y / d[0] for y in n], [y / d[0] for y in d]) for n, d in filters), strict=True))
        self.kept = w.new_zeros((longest - 1, *w.shape))

    def direction(self, g: Tensor) -> Tensor:
        """(rows, p) the filtered gradients, after one more gradient (rows, p)."""
        v = g - (self.d[1:] * self.kept).sum(0)
        along = self.n[0] * v + (self.n[1:] * self.kept).sum(0)
        self.kept = torch.cat([v[None], self.kept])[: len(self.kept)]
        return along


# --- two problems with rising sharpness, for many weight vectors at once ------------------------------


class Landscape(NamedTuple):
    """A loss (...,) of weights (..., p), starts (runs, p) by seed, and the sharpness of every rule's edge."""

    loss: Callable[[Tensor], Tensor]
    starts: Callable[[int, int], Tensor]
    sharpness: float

    def gradient(self, w: Tensor) -> Tensor:
        """(runs, p) at weights (runs, p)."""
        w = w.detach().requires_grad_()
        return torch.autograd.grad(self.loss(w).sum(), w)[0]

    def top(self, w: Tensor) -> Tensor:
        """(runs,) largest eigenvalues of the Hessian at weights (runs, p)."""
        return torch.linalg.eigvalsh(torch.func.vmap(torch.func.hessian(self.loss))(w))[:, -1]


def _valley(sharpness: float = 15.0, steepening: float = 0.3, excess: float = EXCESS) -> Landscape:
    """A valley whose lowest point is ``excess`` beyond the edge; weight decay pulls to where its sharpness is 20."""
    edge = math.log(sharpness / 20.0) / steepening
    run = ValleyRun(start=(edge - 0.6 / steepening,), offset=0.05, edge_lr=0.1, steepening=steepening, pull=0.05,
                    goal=edge + excess / steepening, bend=0.1)
    valley = Valley(run)

    def loss(w: Tensor) -> Tensor:
        return 0.5 * (valley.residuals(w) ** 2).sum(-1)

    def starts(runs: int, first: int) -> Tensor:
        along = run.start[0] + 0.1 / steepening * np.random.default_rng(first).uniform(-1, 1, runs)
        return torch.tensor(np.stack([run.bend * np.sin(along) + run.offset, along], 1))

    return Landscape(loss, starts, sharpness)


def _network(sharpness: float = 8.0, hidden: int = 5, examples: int = 50) -> Landscape:
    """Two inputs, two layers of tanh units and one output learn 2 sin(2 x_1) x_2 with noise, by the squared error."""
    with seeding(0):
        x = torch.randn(examples, 2, dtype=torch.float64)
        y = 2 * torch.sin(2 * x[:, 0]) * x[:, 1] + 0.6 * torch.randn(examples, dtype=torch.float64)
    inputs, shapes = torch.cat([x, torch.ones_like(x[:, :1])], 1).T, ((hidden, 3), (hidden, hidden), (1, hidden))

    def loss(w: Tensor) -> Tensor:
        parts = w.split([rows * columns for rows, columns in shapes], -1)
        first, second, out = (part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True))
        outputs = out @ torch.tanh(second @ torch.tanh(first @ inputs))
        return 0.5 * ((outputs[..., 0, :] - y) ** 2).mean(-1)

    def starts(runs: int, first: int) -> Tensor:
        with seeding(first):
            return 0.5 * torch.randn(runs, hidden * (3 + hidden + 1), dtype=torch.float64)

    return Landscape(loss, starts, sharpness)


PROBLEMS: dict[str, Callable[[], Landscape]] = {"valley": _valley, "network": _network}


@dataclass(frozen=True)
class FilterRuns(Experiment):
    """Runs with each filter in one problem, all at once; without weight decay the edge of all is at one sharpness.

    Arrays: step (m,); by filter, weight decay and run (filters, decays, runs, m), at weights averaged over the last 24
    steps: loss and sharpness (largest eigenvalue of the Hessian), NaN where a run diverged; edge (filters, decays),
    the sharpness where stability is lost.

    Args:
        problem: one of ``PROBLEMS``.
        filters: names in ``FILTERS``.
        decays: shares of the weights that a step subtracts.
        steps: of each run.
        every: steps between two measurements.
        runs: number of starts.
        first: seed of the starts.
        share: the learning rate, relative to the one that puts the edge at the problem's sharpness.

    Raises:
        InputError: A value is out of range or a name is unknown.
    """

    name: ClassVar[str] = "filter-runs"

    problem: str = "valley"
    filters: tuple[str, ...] = tuple(FILTERS)
    decays: tuple[float, ...] = (0.0,)
    steps: int = 6000
    every: int = 11
    runs: int = 1
    first: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "every", "runs"):
            whole(name, getattr(self, name), 1)
        number("share", self.share, lambda x: 0 < x < math.inf, "positive and finite")
        if self.problem not in PROBLEMS:
            raise InputError(f"problem must be one of {', '.join(PROBLEMS)}, not {self.problem}.")
        if unknown := set(self.filters) - set(FILTERS):
            raise InputError(f"filters must be some of {', '.join(FILTERS)}, not {', '.join(sorted(unknown))}.")

    def compute(self, context: Context) -> Result:
        """Run all filters, decays and starts in one loop."""
        started, land = time.perf_counter(), PROBLEMS[self.problem]()
        shape = len(self.filters), len(self.decays), self.runs
        lr = np.array([self.share * edge_of(name).level / land.sharpness for name in self.filters])
        edge = np.array([[edge_of(name, decay).level for decay in self.decays] for name in self.filters]) / lr[:, None]
        rate = torch.tensor(np.broadcast_to(lr[:, None, None], shape).reshape(-1, 1))
        left = torch.tensor(np.broadcast_to(1.0 - np.array(self.decays)[:, None], shape).reshape(-1, 1))
        w, rows = land.starts(self.runs, self.first).repeat(len(rate) // self.runs, 1), []
        memories = Memories([FILTERS[name] for name in self.filters for _ in range(len(rate) // len(lr))], w)
        recent: deque[Tensor] = deque(maxlen=AVERAGED)
        for step in range(self.steps + 1):
            recent.append(w)
            if step % self.every == 0:
                mean = torch.stack(list(recent)).mean(0)
                near = mean.abs().amax(1) < 1e6  # false for NaN
                safe = torch.where(near[:, None], mean, 0.0)
                rows.append(torch.where(near, torch.stack([land.loss(safe), land.top(safe)]), math.nan))
                context.progress(step, self.steps)
            w = left * w - rate * memories.direction(land.gradient(w))
        loss, sharpness = torch.stack(rows, -1).reshape(2, *shape, -1).numpy()
        arrays = {"step": np.arange(0, self.steps + 1, self.every), "loss": loss, "sharpness": sharpness, "edge": edge}
        return Result(arrays, {"p": w.shape[1], "seconds": time.perf_counter() - started})


@dataclass(frozen=True)
class SmallDisturbances(Experiment):
    """How small disturbances grow or die out at the edge of a straight valley, by filter and excess.

    Runs start at the edge with the swings that hold them there, and with ln S disturbed by 1e-4. The deviations of
    ln S, averaged over 24 steps, in the last sixth of the run are compared with those in the second sixth.

    Arrays: excess (filters,) from the formula; growth (filters, shares), the logarithm of the ratio of the standard
    deviations in both sixths, by filter and share of that excess; measured (filters,), the excess without growth,
    interpolated.

    Args:
        filters: names in ``FILTERS``, of a finite excess.
        shares: of the formula's excess, rising.
        rate: g, by which the distance to the lowest point shrinks in a step.
        length: of a run, in units of 1 / g.

    Raises:
        InputError: A value is out of range, a name is unknown, or the excess is infinite.
    """

    name: ClassVar[str] = "small-disturbances"

    filters: tuple[str, ...] = ("gradient descent",)
    shares: tuple[float, ...] = (0.85, 1.0, 1.15)
    rate: float = 0.002
    length: float = 30.0

    def __post_init__(self) -> None:
        for name in ("rate", "length"):
            number(name, getattr(self, name), lambda x: 0 < x < math.inf, "positive and finite")
        if not self.filters or any(name not in FILTERS or math.isinf(excess_of(name)) for name in self.filters):
            raise InputError("filters must be names of filters whose excess is finite.")
        if not (len(self.shares) > 1 and self.shares[0] > 0 and (np.diff(self.shares) > 0).all()):
            raise InputError("shares must be at least two positive numbers that rise.")

    def compute(self, context: Context) -> Result:
        """Run all in one loop, in S(y) x^2 / 2 + c (y - y*)^2 / 2 with S = exp(y) and the edge at y = 0."""
        started, names = time.perf_counter(), [name for name in self.filters for _ in self.shares]
        formula = np.array([excess_of(name) for name in self.filters])
        excess = torch.tensor(np.multiply.outer(formula, self.shares).ravel())
        gain = torch.tensor([sum(n) / sum(d) for n, d in (FILTERS[name] for name in names)], dtype=torch.float64)
        edges = [edge_of(name) for name in names]
        lr = torch.tensor([edge.level for edge in edges], dtype=torch.float64)
        pull, angle = self.rate / (lr * gain), torch.tensor([2 * math.pi / edge.period for edge in edges])
        size = torch.sqrt(torch.where(angle < 3.1415, 4.0, 2.0) * pull * excess)  # the mean of x^2 / 2 is c y*

        def gradient(x: Tensor, y: Tensor) -> Tensor:
            return torch.stack([y.exp() * x, 0.5 * y.exp() * x**2 + pull * (y - excess)], 1)

        memories = Memories([FILTERS[name] for name in names], torch.stack([size, excess], 1))
        for t in range(-400, 0):  # the gradients that the filters remember
            memories.direction(gradient(size * torch.cos(angle * t), torch.zeros_like(size)))
        w, seen = torch.stack([size, torch.full_like(size, 1e-4)], 1), []
        steps = round(self.length / self.rate)
        for t in range(steps):
            seen.append(w[:, 1])
            w = w - lr[:, None] * memories.direction(gradient(w[:, 0], w[:, 1]))
            context.progress(t + 1, steps)
        blocks = torch.stack(seen[: steps // AVERAGED * AVERAGED], 1).unflatten(1, (-1, AVERAGED)).mean(2).numpy()
        sixth = blocks.shape[1] // 6
        growth = np.log(blocks[:, -sixth:].std(1) / blocks[:, sixth : 2 * sixth].std(1)).reshape(len(self.filters), -1)
        measured = formula * [np.interp(0.0, row, self.shares, math.nan, math.nan) for row in growth]
        return Result({"excess": formula, "growth": growth, "measured": measured},
                      {"seconds": time.perf_counter() - started})
