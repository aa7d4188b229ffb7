"""A computed valley in two or three weights whose walls steepen along its floor.

    L(x, y)    = S(y) (x - f(y))^2 / 2 + c (y - y*)^2 / 2,      S(y) = (2 / edge_lr) exp(a y)
    L(x, y, z) = the same with S(y - h z) and + b (z - z*)^2 / 2

The floor is x = f(y), a gentle bend. Across it the curvature is S, which reaches 2 / edge_lr near y = 0,
before the lowest point y*. Derived for this book; a least-squares problem with two or three residuals.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from gfm import central
from gfm.central.closed_form import gradient_descent_variance
from gfm.errors import InputError
from gfm.experiments.central.flow_run import run_of
from gfm.optimizers import GradientDescent
from gfm.problem import Problem
from gfm.store.experiment import Context, Experiment, Obtain, Result

__all__ = ["Valley", "ValleyRun", "closed_form_variance", "floor", "landscape", "lowest_stable", "valley_run"]


class Valley(nn.Module):
    """The valley of a run as a module: one example, whose outputs are residuals (half their squared sum is L).

    Weights w = (x, y) or (x, y, z) start at a distance ``offset`` from the floor; f(y) = bend sin y, h is ``tilt``.

    Raises:
        InputError: The run's start has neither one nor two coordinates.
    """

    def __init__(self, run: "ValleyRun"):
        super().__init__()
        if len(run.start) not in (1, 2):
            raise InputError("A valley starts at (y,) or (y, z) on its floor.")
        self.run = run
        x = run.bend * np.sin(run.start[0]) + run.offset
        self.w = nn.Parameter(torch.tensor([x, *run.start], dtype=torch.float64))

    def residuals(self, w: Tensor) -> Tensor:
        """(..., p) residuals at weights (..., p); half their squared sum is the loss."""
        run, x, y = self.run, w[..., 0], w[..., 1]
        z = w[..., 2] if w.shape[-1] == 3 else torch.zeros_like(y)
        root = (2.0 / run.edge_lr) ** 0.5 * torch.exp(0.5 * run.steepening * (y - run.tilt * z))
        parts = [root * (x - run.bend * torch.sin(y)), run.pull**0.5 * (y - run.goal)]
        if w.shape[-1] == 3:
            parts.append(run.drift**0.5 * (z - run.far))
        return torch.stack(parts, -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """The residuals at the weights, (n, residuals), for (n, 1) inputs equal to one."""
        return inputs * self.residuals(self.w)

    def problem(self) -> Problem:
        """The valley as a training problem."""
        one = torch.ones(1, 1, dtype=torch.float64)
        return Problem(self, one, torch.zeros(1, len(self.w), dtype=torch.float64), "mse")


@dataclass(frozen=True)
class ValleyRun(Experiment):
    """Gradient descent, gradient flow and central flow from one point of a valley.

    The weights of every step are kept. In the module's formulas steepening is a, pull c, goal y*, drift b and
    far z*.

    Args:
        start: (y,) or (y, z).
        lr: learning rate.
        edge_lr: the learning rate for which the edge is at y = tilt z.
    """

    name: ClassVar[str] = "valley"

    start: tuple[float, ...] = (-1.6,)
    offset: float = 0.45
    lr: float = 0.1
    edge_lr: float = 0.1
    steepening: float = 0.08
    pull: float = 0.33
    goal: float = 0.45
    bend: float = 0.1
    tilt: float = 0.0
    drift: float = 0.0
    far: float = 0.0
    steps: int = 300
    substeps: int = 4

    def compute(self, context: Context) -> Result:
        """Run gradient descent and its flows in the valley; the arrays of ``central.Run``."""
        run = central.run(
            Valley(self).problem(), GradientDescent(self.lr), self.steps, substeps=self.substeps,
            keep_weights=1, progress=context.progress,
        )
        return Result(*run.to_arrays())


def valley_run(obtain: Obtain, **parameters: Any) -> central.Run:
    """The run with these parameters, from ``obtain`` (a notebook's ``element.obtain``)."""
    return obtain(ValleyRun(**parameters)).read(run_of)


def _loss(run: ValleyRun) -> Callable[[Tensor], Tensor]:
    """The loss of weights (..., p), for derivatives of a tiny dense problem."""
    valley = Valley(run)
    return lambda w: 0.5 * (valley.residuals(w) ** 2).sum(-1)


def _sharpness(loss: Callable[[Tensor], Tensor], w: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(torch.func.hessian(loss)(w))[-1]


def _at(run: ValleyRun, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss and sharpness (largest Hessian eigenvalue) at points (..., p)."""
    loss = _loss(run)
    flat = torch.tensor(points.reshape(-1, points.shape[-1]))
    values = torch.func.vmap(loss)(flat)
    hessians = torch.func.vmap(torch.func.hessian(loss))(flat)
    top = torch.linalg.eigvalsh(hessians)[:, -1]
    losses, sharpness = (t.detach().numpy().reshape(points.shape[:-1]) for t in (values, top))
    return losses, sharpness


def landscape(run: ValleyRun, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss and sharpness of a two-weight valley on a grid with sides x (m,) and y (n,), each (n, m)."""
    return _at(run, np.stack(np.meshgrid(x, y), -1))


def floor(run: ValleyRun, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Loss and sharpness on the floor of a three-weight valley, on a grid with sides y (m,) and z (n,), each (n, m)."""
    ys, zs = np.meshgrid(y, z)
    return _at(run, np.stack([run.bend * np.sin(ys), ys, zs], -1))


def lowest_stable(run: ValleyRun) -> np.ndarray:
    """(p,) the lowest point of the region in which the sharpness is at most 2 / lr (by SLSQP)."""
    loss = _loss(run)
    found = minimize(
        lambda w: float(loss(torch.tensor(w)).detach()),
        Valley(run).w.detach().numpy(),
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "ineq", "fun": lambda w: 2.0 - run.lr * float(_sharpness(loss, torch.tensor(w)).detach())},
    )
    return found.x


def closed_form_variance(run: ValleyRun, w: np.ndarray) -> float:
    """``sigma^2 = 2 <-grad L, grad S> / |grad S|^2`` at weights (p,) at the edge.

    The sharpness S is differentiated through the dense Hessian. Source: Central Flows, gradient
    descent with one eigenvalue at the edge.
    """
    loss = _loss(run)
    at = torch.tensor(np.asarray(w, dtype=float))
    slope = torch.func.grad(loss)(at).detach()
    rise = torch.func.grad(lambda v: _sharpness(loss, v))(at).detach()
    return gradient_descent_variance(slope, rise)
