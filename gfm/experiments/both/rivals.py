"""The central flow and its rivals on a toy in closed form and on small networks, and their errors.

    L(x, y) = (S0 + b y) x^2 / 2 - c y

The floor is x = 0; along it the curvature S0 + b y rises with y until it reaches 2 / lr. There the central flow has y
at rest and a variance of 2 c / b for x.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gfm import central
from gfm.central.processes import PROCESSES as KINDS
from gfm.central.rivals import Rival
from gfm.checks import number, whole
from gfm.experiments.central.flow_run import run_of
from gfm.measures.comparison import Comparison, smooth
from gfm.optimizers import GradientDescent
from gfm.problem import Problem
from gfm.store.experiment import Context, Experiment, Obtain, Result

__all__ = ["FLOWS", "PROCESSES", "RisingWall", "RivalToy", "closed_forms", "errors", "rival_toy", "spent"]

#: The flows that are compared, and what they are called.
FLOWS = {"central": "central flow", "rod": "Rod Flow", "edge": "Edge Flow", "stable": "gradient flow"}
PROCESSES = ("discrete", *FLOWS)


class RisingWall(nn.Module):
    """The toy as a module: one output, which is its own loss."""

    def __init__(self, run: "RivalToy"):
        super().__init__()
        self.run = run
        self.w = nn.Parameter(torch.tensor([run.x, 0.0], dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """L(w) for each of (n, 1) inputs equal to one."""
        run, x, y = self.run, self.w[0], self.w[1]
        return inputs * ((run.sharpness + run.rise * y) * x**2 / 2 - run.pull * y)


@dataclass(frozen=True)
class RivalToy(Experiment):
    """All processes on the toy from (x, 0); the arrays of ``central.Run`` with the weights of every step.

    In the module's formulas sharpness is S0, rise b and pull c.
    """

    name: ClassVar[str] = "rival-toy"

    lr: float = 0.02
    sharpness: float = 98.0
    rise: float = 20.0
    pull: float = 0.05
    x: float = 0.01
    steps: int = 1800
    substeps: int = 4

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        for name in ("lr", "sharpness", "rise", "pull", "x"):
            number(name, getattr(self, name), lambda value: 0 < value < np.inf, "positive and finite")

    @property
    def variance(self) -> float:
        """2 c / b, the mean of x^2 that holds y at rest."""
        return 2 * self.pull / self.rise

    def problem(self) -> Problem:
        """The training problem."""
        one = torch.ones(1, 1, dtype=torch.float64)
        return Problem(RisingWall(self), one, 0 * one, lambda outputs, _: outputs.mean())

    def compute(self, context: Context) -> Result:
        """Run all processes."""
        run = central.run(
            self.problem(), GradientDescent(self.lr), self.steps, processes=PROCESSES,
            settings=central.Settings(substeps=self.substeps, dense=True), keep_weights=1, progress=context.progress,
        )
        return Result(*run.to_arrays())


def rival_toy(obtain: Obtain, **parameters: Any) -> central.Run:
    """The run with these parameters, from ``obtain`` (a notebook's ``element.obtain``)."""
    return obtain(RivalToy(**parameters)).read(run_of)


def spent(run: central.Run) -> dict[str, tuple[float, float]]:
    """Gradients and products (Hessian-vector products and third derivatives) per step that move each process.

    Those that only measure are left out: the eigenvectors of the optimizer, of gradient flow and of the rivals.
    """
    found = {}
    for name, series in run.series.items():
        last = int(np.flatnonzero(np.isfinite(series["loss"]))[-1]) or 1
        if "spent_products" in series:
            found[name] = (float(series.spent_gradients[last]) / last, float(series.spent_products[last]) / last)
        elif name == "central":
            costs = run.costs[name]
            found[name] = (costs["gradients"] / last, (costs["hvps"] + costs["thirds"]) / last)
        else:
            found[name] = (run.costs[name]["gradients"] / last, 0.0)
    return found


def errors(compared: Comparison) -> dict[str, Mapping[str, float]]:
    """How far each flow is from the time-averaged optimizer: medians over the steps that count, NaN if not judged.

    - path: distance of the averaged weights, relative to the averaged optimizer's distance from the start; first: the
      same at the first of these steps;
    - loss: relative difference of the predicted loss; for a flow that predicts none, its own loss;
    - sharpness: relative difference of the sharpness at the weights;
    - sigma: relative difference between the mean squared displacement along the flow's own swing and its variance;
      1 for a flow without a swing.
    """
    run, found = compared.run, {}
    discrete = run["discrete"]
    mean = smooth(discrete.weights, compared.window)
    far = np.linalg.norm(mean - discrete.weights[0], axis=1)
    for name in FLOWS.keys() & run.series.keys():
        flow = run[name]
        apart = np.linalg.norm(mean - smooth(_padded(flow.weights, run.steps), compared.window), axis=1)
        path = compared.during(np.divide(apart, far, out=np.full_like(apart, np.nan), where=far > 0))
        what = flow["predicted_loss"] if "predicted_loss" in flow else flow["loss"]
        swing = 1.0
        if "sigma" in flow and flow.sigma.shape[1]:
            swing = _relative(*compared.of(flow.displacement[:, 0] ** 2, flow.sigma[:, 0]))
        found[name] = {
            "path": float(np.median(path)) if len(path) else np.nan,
            "first": float(path[0]) if len(path) else np.nan,
            "loss": _relative(*compared.of(discrete.loss, what)),
            "sharpness": _relative(*compared.of(discrete.eigenvalues[:, 0], flow.eigenvalues[:, 0])),
            "sigma": swing,
        }
    return {name: found[name] for name in FLOWS if name in found}


def _relative(seen: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.median(np.abs(predicted - seen) / np.abs(seen))) if len(seen) else np.nan


def _padded(weights: np.ndarray, steps: int) -> np.ndarray:
    """The weights as (steps + 1, p), NaN after the flow has stopped."""
    whole = np.full((steps + 1, weights.shape[1]), np.nan)
    whole[: len(weights)] = weights
    return whole


class _Well(nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, inputs: Tensor) -> Tensor:
        """The weight for each of (n, 1) inputs equal to one."""
        return inputs * self.w


def closed_forms(process: str, lr: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The swing of "rod" or "edge" and its closed form, each (4,), in a well S w^2 / 2 - Q w^4 / 4.

    Three numbers are the factor of the variance in a step from w = 0 in a quadratic (Q = 0) with lr S = 0.5, 1.9 and
    2.2: exp(lr^2 S^2 / 2 - 2) of Rod Flow, (1 - lr S)^2 of Edge Flow. The last is the variance at rest at lr S = 2.1
    and Q = 3, S / Q - 2 / (lr Q) of both.
    """
    seen, known = [], []
    for level in (0.5, 1.9, 2.2):
        sigma = _in_a_well(process, lr, level / lr, 0.0, 1)
        seen.append(sigma[1] / sigma[0])
        known.append(np.exp(level**2 / 2 - 2) if process == "rod" else (1 - level) ** 2)
    S, Q = 2.1 / lr, 3.0
    sigma = _in_a_well(process, lr, S, Q, 150)
    return np.array([*seen, lr * sigma[-1]]), np.array([*known, S / Q - 2 / (lr * Q)])


def _in_a_well(process: str, lr: float, S: float, Q: float, steps: int) -> np.ndarray:
    """Sigma (steps + 1,) of a rival that starts at w = 0 with a swing of 0.1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    problem = Problem(_Well(), one, 0 * one, lambda out, _: (S * out**2 / 2 - Q * out**4 / 4).mean())
    rule = GradientDescent(lr)
    flow = KINDS[process](problem, rule, central.Settings(), problem.w0, rule.init(problem.w0))
    assert isinstance(flow, Rival)
    flow.a = 0.1
    sigma = [flow.variance]
    for t in range(steps):
        flow.observe(t)
        flow.advance()
        sigma.append(flow.variance)
    return np.array(sigma)
