"""Gradient descent with noisy gradients near its edge: a valley in two weights, and a small network on mini-batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vmap

from gfm.central.barrier import barrier_flow
from gfm.checks import number, whole
from gfm.data.toys import waves
from gfm.errors import InputError
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["NoisyNetwork", "NoisyPath", "NoisyValley", "measured", "noise_for"]

EXAMPLES = 48
"""That the network learns from."""


def noise_for(gap: np.ndarray, lr: float, rise: np.ndarray | float, pull: np.ndarray | float) -> np.ndarray:
    """The s2 for which the valley's sharpness should come to rest at ``2 / lr - gap``.

    Example:
        >>> round(float(noise_for(np.array(2.0), 0.02, 20.0, 0.05)), 6)  # 2 * 98 * 2 * 0.05 / 20
        0.98
    """
    gap = np.asarray(gap, dtype=float)
    return 2.0 * gap * (2.0 / lr - gap) * pull / rise


def _checked(run: NoisyValley | NoisyPath) -> None:
    number("lr", run.lr, lambda x: 0 < x < math.inf, "positive and finite")
    for name in ("seeds", "steps"):
        whole(name, getattr(run, name), 1)
    if not run.gaps or not all(0 < gap < 1 / run.lr for gap in run.gaps):
        raise InputError("gaps must be positive, and below 1 / lr: more noise than that leaves no place to rest")
    if not 0 < run.start < 2 / run.lr:
        raise InputError("start must be a sharpness below 2 / lr")


@dataclass(frozen=True)
class NoisyValley(Experiment):
    """Gradient descent on L(x, y) = (start + b y) x^2 / 2 - c y, with Gaussian noise on the derivative along x.

    Arrays, by setting (m,): rise b, pull c, noise s2. By setting and run (m, seeds), averages over the second half of
    the steps: sharpness S, its standard deviation over time (spread), variance x^2, balance S (2 / lr - S) x^2.

    Args:
        lr: learning rate.
        start: the sharpness at the start, y = 0.
        slopes: pairs (b, c).
        gaps: the predicted gaps 2 / lr - S at rest; each with each pair is a setting, whose noise follows.
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
        every: steps over which is averaged.
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
            raise InputError("steps must be a multiple of every")

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


@dataclass(frozen=True)
class NoisyNetwork(Experiment):
    """SGD on a network of one tanh layer and 48 examples, at several batch sizes; all runs side by side.

    Batches are drawn anew at each step, without repetition within a batch. In the second half of a run the weights are
    averaged over windows; there the Hessian's top pair (S, u) and the gradients are measured, so that oscillation and
    noise of the fast directions are left out. s2 = u^T C u is that of the batches' gradients at the weights passed.

    Arrays: batch (m,). By batch size and run (m, runs), averages over the windows: sharpness S; spread (of S over
    windows); noise s2; variance (of the displacement along u); falls <-grad L, grad S> and steepness |grad S|^2,
    both without their components along u; others, what the noise in the other fast directions takes from ``falls``;
    drift (dS/dt over lr); second (the second eigenvalue); loss (at the last window's mean). Fast is a direction that
    relaxes at least five times within a window.

    Args:
        lr: learning rate.
        batches: batch sizes.
        runs: initial weights for each batch size; the same ones for each.
        first: seed of the first initial weights.
        steps: of each run, a multiple of two windows.
        window: steps over which weights are averaged.
        hidden: tanh units, of four weights each.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "noisy-network"

    lr: float = 0.3
    batches: tuple[int, ...] = (48, 32, 16, 8, 4, 2)
    runs: int = 4
    first: int = 100
    steps: int = 6000
    window: int = 100
    hidden: int = 16

    def __post_init__(self) -> None:
        number("lr", self.lr, lambda x: 0 < x < math.inf, "positive and finite")
        for name, least in (("runs", 1), ("steps", 1), ("window", 10), ("hidden", 1)):
            whole(name, getattr(self, name), least)
        if not self.batches or not all(1 <= batch <= EXAMPLES for batch in self.batches):
            raise InputError(f"batches must hold 1 to {EXAMPLES} examples")
        if self.steps % (2 * self.window) or self.steps < 4 * self.window:
            raise InputError("steps must be a multiple of two windows, with at least two windows in each half")

    def losses(self) -> Callable[[Tensor], Tensor]:
        """The loss of each example (48,) as a function of weights (4 hidden,)."""
        data, h = waves(EXAMPLES, 2, frequency=1.5, seed=0), self.hidden
        inputs, targets = data.inputs, data.targets[:, 0] / data.targets.std()

        def each(w: Tensor) -> Tensor:
            units = torch.tanh(inputs @ w[: 2 * h].reshape(2, h) + w[2 * h : 3 * h])
            return 0.5 * (units @ w[3 * h :] - targets) ** 2

        return each

    def compute(self, context: Context) -> Result:
        """Train all; measure in the second half."""
        started, each, h = time.perf_counter(), self.losses(), self.hidden
        batch = np.repeat(self.batches, self.runs)
        starts = []
        for seed in range(self.first, self.first + self.runs):
            draw = np.random.default_rng(seed)
            starts.append(np.concatenate([draw.standard_normal(2 * h) / math.sqrt(2), np.zeros(h),
                                          draw.standard_normal(h) / math.sqrt(h)]))
        w = torch.tensor(np.tile(np.array(starts), (len(self.batches), 1)))
        slope = vmap(grad(lambda v, share: (each(v) * share).sum()))
        draw, passed, rows = np.random.default_rng(self.first), [], []
        for step in range(self.steps):
            if step >= self.steps // 2:
                passed.append(w)
                if len(passed) == self.window:
                    rows.append(measured(each, torch.stack(passed, 1), batch, self.lr))
                    passed = []
            order = draw.random((len(batch), EXAMPLES)).argsort(1).argsort(1)
            w = w - self.lr * slope(w, torch.tensor((order < batch[:, None]) / batch[:, None]))
            if step % 100 == 0:
                context.progress(step, self.steps)
        shape = len(self.batches), self.runs
        series = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        arrays = {name: values.mean(0).reshape(shape) for name, values in series.items()}
        S = series["sharpness"]
        arrays["spread"] = S.std(0).reshape(shape)
        arrays["drift"] = ((S[-1] - S[0]) / ((len(S) - 1) * self.window * self.lr)).reshape(shape)
        arrays["loss"] = series["loss"][-1].reshape(shape)
        arrays["batch"] = np.array(self.batches)
        return Result(arrays, {"p": 4 * h, "seconds": time.perf_counter() - started})


def measured(each: Callable[[Tensor], Tensor], passed: Tensor, batch: np.ndarray, lr: float) -> dict[str, np.ndarray]:
    """What ``NoisyNetwork`` measures of each run (runs,) in a window.

    Args:
        each: the loss of each example as a function of the weights.
        passed: (runs, window, p) weights.
        batch: (runs,) batch sizes.
        lr: learning rate.
    """
    window, n = passed.shape[1], len(each(passed[0, 0]))

    def full(w: Tensor) -> Tensor:
        return each(w).mean()

    def curvature(w: Tensor, u: Tensor) -> Tensor:
        return jvp(lambda v: jvp(full, (v,), (u,))[1], (w,), (u,))[1]

    centre = passed.mean(1)
    lam, vectors = torch.linalg.eigh(vmap(hessian(full))(centre))
    u = vectors[:, :, -1]
    rise = vmap(grad(curvature))(centre, u)
    rise = rise - (rise * u).sum(1, keepdim=True) * u
    # The covariance of a batch's gradient, batches drawn without repetition.
    per_batch = torch.tensor((n - batch) / ((n - 1) * batch))
    some = passed[:, :: window // 10]
    along = vmap(lambda ws, v: vmap(lambda w: jvp(each, (w,), (v,))[1])(ws))(some, u)
    noise = along.var(2, correction=0).mean(1) * per_batch
    # The other fast directions: the covariance in which they rest, and what it does to the sharpness.
    slopes = vmap(jacrev(each))(centre) @ vectors
    slopes = slopes - slopes.mean(1, keepdim=True)
    covariance = slopes.mT @ slopes / n * per_batch[:, None, None]
    factor = 1 - lr * lam
    fast = (lr * lam * window >= 5) & (lr * lam < 2)
    fast[:, -1] = False
    both = fast[:, :, None] & fast[:, None, :]
    rest = torch.where(both, lr**2 * covariance / (1 - factor[:, :, None] * factor[:, None, :]), 0.0)
    third = vmap(lambda w, v: jvp(hessian(full), (w,), (v,))[1])(centre, rise)
    found = {
        "sharpness": lam[:, -1], "second": lam[:, -2], "noise": noise,
        "variance": ((passed - centre[:, None]) @ u[:, :, None]).square().mean((1, 2)),
        "falls": -(vmap(grad(full))(centre) * rise).sum(1), "steepness": rise.square().sum(1),
        "others": 0.5 * (rest * (vectors.mT @ third @ vectors)).sum((1, 2)), "loss": vmap(full)(centre),
    }
    return {name: values.detach().numpy() for name, values in found.items()}
