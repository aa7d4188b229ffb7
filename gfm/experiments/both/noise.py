"""Gradient descent with noisy gradients near its edge, in a valley of two weights."""

import math
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gfm.central.barrier import barrier_flow
from gfm.checks import number, whole
from gfm.errors import InputError
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["NoisyPath", "NoisyValley", "noise_for"]


def noise_for(gap: np.ndarray, lr: float, rise: np.ndarray | float, pull: np.ndarray | float) -> np.ndarray:
    """The s2 for which the valley's sharpness should come to rest at ``2 / lr - gap``; arguments are numbers or (m,).

    Example:
        >>> round(float(noise_for(np.array(2.0), 0.02, 20.0, 0.05)), 6)  # 2 * 98 * 2 * 0.05 / 20
        0.98
    """
    gap = np.asarray(gap, dtype=float)
    return 2.0 * gap * (2.0 / lr - gap) * pull / rise


def _checked(run: "NoisyValley | NoisyPath") -> None:
    number("lr", run.lr, lambda x: 0 < x < math.inf, "positive and finite")
    for name in ("seeds", "steps"):
        whole(name, getattr(run, name), 1)
    if not run.gaps or not all(0 < gap < 1 / run.lr for gap in run.gaps):
        raise InputError("gaps must be positive, and below 1 / lr: more noise than that leaves no place to rest.")
    if not 0 < run.start < 2 / run.lr:
        raise InputError("start must be a sharpness below 2 / lr.")


@dataclass(frozen=True)
class NoisyValley(Experiment):
    """Gradient descent on L(x, y) = (start + b y) x^2 / 2 - c y, with Gaussian noise on the derivative along x.

    Arrays, by setting (m,): rise b, pull c, noise s2. By setting and run (m, seeds), averages over the second half of
    the steps: sharpness S, its standard deviation over time (spread), variance x^2, balance S (2 / lr - S) x^2.

    Args:
        lr: learning rate.
        start: the sharpness at the start, y = 0.
        slopes: pairs (b, c).
        gaps: the predicted gaps 2 / lr - S at rest, which determine the noise; each gap with each pair is a setting.
        seeds: runs of each setting.
        steps: of each run.
        seed: of the noise.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "noisy-valley"

    lr: float = 0.02
    start: float = 90.0
    slopes: tuple[tuple[float, float], ...] = ((20.0, 0.05), (20.0, 0.01), (5.0, 0.05), (20.0, 0.2), (5.0, 0.2))
    gaps: tuple[float, ...] = (0.05, 0.15, 0.5, 1.5, 5.0, 15.0)
    seeds: int = 16
    steps: int = 40000
    seed: int = 1

    def __post_init__(self) -> None:
        _checked(self)

    def compute(self, context: Context) -> Result:
        """All settings and runs side by side."""
        started = time.perf_counter()
        rise, pull = np.repeat(np.array(self.slopes, dtype=float), len(self.gaps), axis=0).T
        noise = noise_for(np.tile(self.gaps, len(self.slopes)), self.lr, rise, pull)
        b, c, scale = rise[:, None], pull[:, None], np.sqrt(noise)[:, None]
        x, y = np.zeros((2, len(noise), self.seeds))
        draw, edge, first = np.random.default_rng(self.seed), 2.0 / self.lr, self.steps // 2
        sums = np.zeros((4, *x.shape))
        for step in range(self.steps):
            S, swing = self.start + b * y, x * x
            if step >= first:
                sums += S, (S - self.start) ** 2, swing, S * (edge - S) * swing
            g = S * x + scale * draw.standard_normal(x.shape)
            x, y = x - self.lr * g, y - self.lr * (b * swing / 2 - c)
            if step % 1000 == 0:
                context.progress(step, self.steps)
        S, squared, variance, balance = sums / (self.steps - first)
        arrays = {"rise": rise, "pull": pull, "noise": noise, "sharpness": S,
                  "spread": np.sqrt(np.maximum(squared - (S - self.start) ** 2, 0)),
                  "variance": variance, "balance": balance}
        return Result(arrays, {"seconds": time.perf_counter() - started})


@dataclass(frozen=True)
class NoisyPath(Experiment):
    """The valley's approach to rest at several noise levels: averages over runs, and the flow with the barrier.

    Arrays: step (t,), the middle of each stretch of ``every`` steps; noise (m,); by level and stretch (m, t), averages
    over runs and steps: sharpness and variance, and of the flow at the middle: flow_sharpness and flow_variance.
    For the noise-free limit: faint (k,) noise, and error (k,), the largest difference in S over the path between the
    flow with that noise and the central flow, whose S is min(start + lr b c t, 2 / lr).

    Args:
        lr: learning rate.
        start: the sharpness at the start.
        slopes: (b, c).
        gaps: predicted gaps at rest, one for each level.
        vanishing: predicted gaps at rest of the flows that are compared with the central flow.
        seeds: runs of each level.
        steps: of each run.
        every: steps in a stretch.
        seed: of the noise.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "noisy-path"

    lr: float = 0.02
    start: float = 70.0
    slopes: tuple[float, float] = (20.0, 0.05)
    gaps: tuple[float, ...] = (4.0, 8.0, 16.0)
    vanishing: tuple[float, ...] = (0.2, 0.06, 0.02, 0.006)
    seeds: int = 400
    steps: int = 4000
    every: int = 50
    seed: int = 2

    def __post_init__(self) -> None:
        _checked(self)
        whole("every", self.every, 1)
        if self.steps % self.every:
            raise InputError("steps must be a multiple of every.")

    def compute(self, context: Context) -> Result:
        """The runs of all levels, then the flows."""
        started, (b, c), edge = time.perf_counter(), self.slopes, 2.0 / self.lr
        noise = noise_for(np.array(self.gaps), self.lr, b, c)
        draw, scale = np.random.default_rng(self.seed), np.sqrt(noise)[:, None]
        x = scale / math.sqrt(self.start * (edge - self.start)) * draw.standard_normal((len(noise), self.seeds))
        y, found = np.zeros_like(x), np.empty((2, len(noise), self.steps))
        for step in range(self.steps):
            S, swing = self.start + b * y, x * x
            found[:, :, step] = S.mean(1), swing.mean(1)
            x = x - self.lr * (S * x + scale * draw.standard_normal(x.shape))
            y = y - self.lr * (b * swing / 2 - c)
            if step % 1000 == 0:
                context.progress(step, self.steps)
        S, variance = found.reshape(2, len(noise), -1, self.every).mean(-1)
        middle = np.arange(0, self.steps, self.every) + (self.every - 1) / 2
        flow_S, flow_variance = self.flow(np.concatenate([[0.0], middle]), noise)
        kink = (edge - self.start) / (self.lr * b * c)  # of the central flow
        times = np.linspace(0, 1.2 * kink, 601)
        faint = noise_for(np.array(self.vanishing), self.lr, b, c)
        central = np.minimum(self.start + self.lr * b * c * times, edge)
        arrays = {"step": middle, "noise": noise, "sharpness": S, "variance": variance,
                  "flow_sharpness": flow_S[:, 1:], "flow_variance": flow_variance[:, 1:], "faint": faint,
                  "error": np.abs(self.flow(times, faint)[0] - central).max(1)}
        return Result(arrays, {"seconds": time.perf_counter() - started})

    def flow(self, times: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sharpness and variance (m, t) of the flow with the barrier, from x = y = 0, for noise levels (m,)."""
        b, c = self.slopes

        def S(w: Tensor) -> Tensor:
            return self.start + b * w[:, 1]

        path, variance = barrier_flow(
            torch.zeros(len(noise), 2, dtype=torch.float64), torch.tensor(times),
            lambda w: torch.stack([S(w) * w[:, 0], b * w[:, 0] ** 2 / 2 - c], 1), S,
            lambda w: torch.stack([torch.zeros_like(w[:, 0]), torch.full_like(w[:, 1], b)], 1),
            lr=self.lr, noise=torch.tensor(noise),
        )
        return (self.start + b * path[..., 1]).T.numpy(), variance.T.numpy()
