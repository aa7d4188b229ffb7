"""A learned field against the true one, on a loss of two weights."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gfm.forecasting.training import Training
from gfm.matching import GradientFlowMatching, IncrementPath, Network, VectorFlow
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["LearnedField", "product_gradient"]


def product_gradient(w: np.ndarray) -> np.ndarray:
    """(..., 2) gradient of 1/2 (w1 w2 - 1)^2, the loss of a two-layer linear network of two weights.

    Its minima form the hyperbola w1 w2 = 1; the origin is a saddle.
    """
    rest = w[..., 0] * w[..., 1] - 1
    return np.stack([rest * w[..., 1], rest * w[..., 0]], axis=-1)


@dataclass(frozen=True)
class LearnedField(Experiment):
    """Gradient descent from N(0, 1) starts, a vector field fitted to it, and both fields on a grid.

    Arrays: grid (g, g, 2); learned, true (g, g, 2) velocities per step; visited (g, g) number of recorded states
    in each cell; runs (12, steps+1, 2) recorded paths; flows (12, steps+1, 2) paths from the same starts along
    the learned field; ends (test, 2, 2) recorded and forecast ends; angles (states,) in degrees between the
    fields at test states that are still moving, sizes (states,) relative differences.

    Args:
        noise: standard deviation of the Gaussian noise on every gradient.
    """

    name: ClassVar[str] = "gfm/vector-field"

    runs: int = 200
    steps: int = 100
    lr: float = 0.05
    noise: float = 0.0
    epochs: int = 400
    seed: int = 0

    def compute(self, context: Context) -> Result:
        """Record the descents, fit the field to them, and compare the two."""
        rng = np.random.default_rng(self.seed)
        states = [rng.normal(size=(self.runs, 2))]
        for _ in range(self.steps):
            gradient = product_gradient(states[-1]) + self.noise * rng.normal(size=(self.runs, 2))
            states.append(states[-1] - self.lr * gradient)
        weights = np.stack(states, axis=1)
        weights = weights[np.abs(weights).max(axis=(1, 2)) < 4]  # drop runs that overshoot far
        train, val, test = Trajectories(weights).split(*(len(weights) * np.array([2, 1, 1]) // 4))
        model = GradientFlowMatching(
            observed=1,
            view="vector",
            network=Network(times=51),
            path=IncrementPath(),
            training=Training(rate=3e-3, batch=10, epochs=self.epochs, patience=150),
        ).fit(train, validation=val, device=context.device())
        flow = model.flow
        assert isinstance(flow, VectorFlow)

        def field(places: np.ndarray) -> np.ndarray:
            return flow.velocity(torch.from_numpy(places)).numpy()

        grid = np.stack(np.meshgrid(*[np.linspace(-2.4, 2.4, 17)] * 2, indexing="xy"), axis=-1)
        true = -self.lr * product_gradient(grid)
        seen = train.weights.reshape(-1, 2)
        cells = np.round((seen + 2.4) / 0.3).astype(int)
        inside = ((cells >= 0) & (cells < 17)).all(axis=1)
        visited = np.zeros((17, 17), dtype=np.int64)
        np.add.at(visited, (cells[inside, 1], cells[inside, 0]), 1)
        places = test.weights[:, :-1].reshape(-1, 2)
        exact = -self.lr * product_gradient(places)
        size = np.linalg.norm(exact, axis=1)
        moving = size > 0.01 * np.median(np.linalg.norm(exact.reshape(test.runs, -1, 2)[:, 0], axis=1))
        found, exact, size = field(places)[moving], exact[moving], size[moving]
        cosine = (found * exact).sum(axis=1) / (np.linalg.norm(found, axis=1) * size + 1e-300)
        forecast = model.forecast(test.prefix(1))
        flows = np.concatenate([test.weights[:12, :2], forecast[:12]], axis=1)
        context.progress(1, 1)
        return Result(
            {
                "grid": grid,
                "learned": field(grid.reshape(-1, 2)).reshape(grid.shape),
                "true": true,
                "visited": visited,
                "runs": test.weights[:12],
                "flows": flows,
                "ends": np.stack([test.final, forecast[:, -1]], axis=1),
                "angles": np.degrees(np.arccos(np.clip(cosine, -1, 1))),
                "sizes": np.linalg.norm(found, axis=1) / size - 1,
            },
            {"seconds": model.fitted.seconds, "parameters": model.fitted.parameters},
        )
