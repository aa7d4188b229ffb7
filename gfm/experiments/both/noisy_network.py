"""A small network on mini-batches near its edge, with the quantities in the balance of noise and barrier."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, hessian, jacrev, jvp, vmap

from gfm.checks import number, whole
from gfm.data.toys import waves
from gfm.errors import InputError
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["NoisyNetwork", "measured"]

EXAMPLES = 48
"""Number of examples from which the network learns."""


@dataclass(frozen=True)
class NoisyNetwork(Experiment):
    """SGD on a network of one tanh layer and 48 examples, at several batch sizes; all runs side by side.

    Each step draws its batch without replacement, independently of other steps. In the second half of a run the weights
    are averaged over windows, which removes oscillation and noise of the fast directions; the Hessian's top pair (S, u)
    and the gradients are measured at the averages. C in the noise s2 = u^T C u is the covariance of the batches'
    gradients, averaged along the path.

    Arrays: batch (m,). By batch size and run (m, runs), averages over the windows: sharpness S; spread (of S over
    windows); noise s2; variance (of the displacement along u); falls <-grad L, grad S> and steepness |grad S|^2,
    both without their components along u; others, the amount by which noise in the other fast directions lowers
    ``falls``; drift (dS/dt over lr); second (the second eigenvalue); loss (at the last window's mean). A direction is
    fast if lr times its eigenvalue times the window's length is at least 5.

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
        if not self.batches:
            raise InputError("batches must hold at least one batch size.")
        for batch in self.batches:
            whole("batches", batch, 1, EXAMPLES)
        if self.steps % (2 * self.window) or self.steps < 4 * self.window:
            raise InputError("steps must be a multiple of two windows, with at least two windows in each half.")

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
    # The covariance of a batch's gradient (drawn without replacement) over that of the examples' gradients.
    per_batch = torch.tensor((n - batch) / ((n - 1) * batch))
    some = passed[:, :: window // 10]
    along = vmap(lambda ws, v: vmap(lambda w: jvp(each, (w,), (v,))[1])(ws))(some, u)
    noise = along.var(2, correction=0).mean(1) * per_batch
    # The other fast directions: their stationary covariance, and its effect on the sharpness.
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
