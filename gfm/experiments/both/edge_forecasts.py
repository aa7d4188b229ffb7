"""Forecasts of training runs at the edge of stability: by the derived flow, and by a flow learned from other runs."""

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from gfm import central, nets
from gfm import data as datasets
from gfm.data import Dataset
from gfm.matching import Conditioning, GradientFlowMatching
from gfm.matching.matched import MatchedFlow
from gfm.nowcasting import Nowcaster, Rule, merged
from gfm.optimizers import GradientDescent
from gfm.problem import Problem
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories, record

__all__ = ["DIRECTIONS", "LEARNED", "STRIDE", "TITLES", "EdgeForecast", "Extrapolation"]

LEARNED = ("raw", "midpoints", "smoothed", "averaged path")
TITLES = {
    "derived": "central flow",
    "stable": "gradient flow",
    "raw": "GFM on raw weights",
    "midpoints": "GFM on midpoints",
    "smoothed": "GFM on smoothed weights",
    "averaged path": "GFM on central flows",
}
"""The forecasts and their names in figures: two derived, four learned from different records of the same runs."""
STRIDE = 10
"""Steps over which directions are compared."""
HALF = 8
"""Half the states of the window that is extrapolated."""
SHARES = np.array([[1.0], [2.0], [4.0]])
"""How far beyond its window an extrapolation goes, in halves of the window."""


@dataclass(frozen=True)
class _EdgeRuns(Experiment):
    """Full-batch gradient descent of a small network on digits, from different initial weights, near the edge.

    Args:
        lr: learning rate.
        n: number of examples.
        noise: share of the labels that are shuffled, so that the sharpness keeps rising and the runs stay at the edge.
        hidden: widths of the network.
        start: steps before the first recorded state, at time 0.
        steps: number of recorded steps.
        observed: how many of them are observed.
        sigma: standard deviation of the smoothing, in steps.
        fitted, held, tested: numbers of runs for the fit, for validation and for the test.
        replicate: runs of different replicates share the examples only.
    """

    lr: float = 0.1
    n: int = 200
    noise: float = 0.3
    hidden: tuple[int, ...] = (8, 8)
    start: int = 250
    steps: int = 200
    observed: int = 40
    sigma: int = 4
    fitted: int = 6
    held: int = 2
    tested: int = 3
    replicate: int = 0

    def data_fingerprint(self) -> str:
        """The digest of the examples."""
        return self.examples().fingerprint

    def examples(self) -> Dataset:
        """The digits, with their parity as target."""
        return datasets.load("digits", n=self.n, targets="parity", noise=self.noise, dtype=torch.float64)

    def module(self) -> nn.Module:
        """A network; its initial weights are drawn from torch's generator."""
        seed = int(torch.randint(2**31, (1,)))
        return nets.build("mlp", self.examples(), hidden=self.hidden, dtype=torch.float64, seed=seed)

    def record(self, runs: int) -> np.ndarray:
        """(runs, margin + steps + 1 + margin, p) weights, including the margins that the smoothing needs."""
        data, steps = self.examples(), self.start + self.steps + self.margin
        recorded = record(
            self.module, data.inputs, data.targets, _loss, "SGD", self.lr, runs, steps, seed=1000 + self.replicate,
            per_run=False,
        )
        return recorded.weights[:, self.start - self.margin :]

    @property
    def margin(self) -> int:
        """Number of states that the smoothing needs on either side."""
        return 3 * self.sigma

    def inner(self, weights: np.ndarray) -> np.ndarray:
        """The states from time 0 to ``steps``, without the margins."""
        return weights[:, self.margin : -self.margin]

    def smoothed(self, weights: np.ndarray) -> np.ndarray:
        """The average path: a Gaussian average over time, without the margins."""
        return self.inner(gaussian_filter1d(weights, self.sigma, axis=1, truncate=3.0))


@dataclass(frozen=True)
class EdgeForecast(_EdgeRuns):
    """How well the derived and the learned flows continue runs, measured at the runs' average paths.

    Every forecast uses only what is known at the last observed state: the central and the gradient flow start from the
    mean of the last two states, a learned flow from the last state of its own kind of record. The smoothed record ends
    a margin earlier, since the average needs states on either side. The learned flows are not fitted to the test runs.

    Arrays, with the names in ``TITLES``: error/* and error/hold (tests, horizon), mean squared distance to the average
    path; cosine/* (tests, blocks), cosine between the displacements of forecast and average path over ``STRIDE`` steps;
    field/* (tests, blocks), cosine between the learned field and the central flow's displacement, at the central flow's
    places; top (tests, horizon + 1), largest eigenvalue of lr H along the central flow. Info: cost by
    forecast, in gradients, a Hessian-vector product as two of them and a third derivative as four.

    Args:
        epochs: of each fit.
    """

    name: ClassVar[str] = "both/edge-forecast"

    epochs: int = 10

    def compute(self, context: Context) -> Result:
        """Record, fit and forecast."""
        weights, n = self.record(self.fitted + self.held + self.tested), self.observed
        truth = self.smoothed(weights)[-self.tested :, n:]
        seen = self.inner(weights)[-self.tested :, : n + 1]
        blocks = np.arange(0, self.steps - n + 1, STRIDE)
        average = np.diff(truth[:, blocks], axis=1)
        arrays = {"error/hold": np.square(seen[:, [n]] - truth[:, 1:]).mean(axis=-1)}
        paths, costs = {}, {}
        for name, process in (("derived", "central"), ("stable", "stable")):
            paths[name], costs[name], top = self._flows(seen[:, n - 1 :].mean(axis=1), self.steps - n, process)
            arrays.setdefault("top", top)
            context.progress(len(paths), len(TITLES))
        places, derived = paths["derived"][:, blocks[:-1]], np.diff(paths["derived"][:, blocks], axis=1)
        for name in LEARNED:
            paths[name], field, costs[name] = self._learned(name, weights, places, context.device())
            arrays[f"field/{name}"] = _cosine(field, derived)
            context.progress(len(paths), len(TITLES))
        for name, path in paths.items():
            arrays[f"error/{name}"] = np.square(path[:, 1:] - truth[:, 1:]).mean(axis=-1)
            arrays[f"cosine/{name}"] = _cosine(np.diff(path[:, blocks], axis=1), average)
        return Result(arrays, {"cost": costs})

    def _flows(self, starts: np.ndarray, steps: int, process: str) -> tuple[np.ndarray, float, np.ndarray]:
        """(runs, steps + 1, p) paths of a derived flow, its mean cost, and (runs, steps + 1) the top of lr H."""
        data = self.examples()
        problem = Problem(self.module(), data.inputs, data.targets, "mse")
        paths, costs, tops = [], [], []
        for start in starts:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they are also in the run's notes
                run = central.run(
                    problem, GradientDescent(lr=self.lr), steps, processes=(process,), keep_weights=1,
                    w0=torch.from_numpy(start.copy()),
                )
            spent = run.costs[process]
            paths.append(run[process].weights)
            costs.append(spent["gradients"] + 2 * spent["hvps"] + 4 * spent["thirds"])
            tops.append(run[process].eigenvalues[:, 0])
        return np.stack(paths), float(np.mean(costs)), np.stack(tops)

    def _records(self, kind: str, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """(fitted + held, steps + 1, p) states to fit to, (tested, last + 1, p) observed ones, and a run's cost."""
        runs, observed, cost = self.fitted + self.held, self.observed, float(self.start + self.steps)
        if kind == "averaged path":
            starts = weights[:, self.margin - 1 : self.margin + 1].mean(axis=1)
            known, flow, _ = self._flows(starts[:runs], self.steps, "central")
            return known, self._flows(starts[runs:], observed, "central")[0], cost + flow
        if kind == "smoothed":
            states, observed = self.smoothed(weights), observed - self.margin
        else:
            states = self.inner(weights if kind == "raw" else (weights + np.roll(weights, 1, axis=1)) / 2)
        return states[:runs], states[runs:, : observed + 1], cost

    def _learned(
        self, kind: str, weights: np.ndarray, places: np.ndarray, device: torch.device
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Paths from the last observed state on, the field at ``places``, and the cost of all records."""
        known, seen, cost = self._records(kind, weights)
        last = seen.shape[1] - 1
        model = GradientFlowMatching(last, view="coordinate", conditioning=Conditioning("auto", optimizer_state=False))
        model.training = replace(model.training, epochs=self.epochs, seed=self.replicate)
        model.fit(Trajectories(known[: self.fitted]), validation=Trajectories(known[self.fitted :]), device=device)
        prefix, waited = Trajectories(seen), self.observed - last
        path = np.concatenate([seen[:, -1:], model.forecast(prefix)], axis=1)[:, waited:]
        assert isinstance(model.flow, MatchedFlow)
        field = model.flow.velocities(prefix, places, waited + STRIDE * np.arange(places.shape[1]))
        return path, field, len(known) * cost


DIRECTIONS: dict[str, Rule] = {
    "raw, odd distance": lambda window: _straight(window, HALF - 1),
    "raw, even distance": lambda window: _straight(window, HALF),
    "averaged halves": merged((0.0, *SHARES[:, 0])),
}
"""Extrapolations of the last 2 ``HALF`` states: along raw weights, and from the older half's average to the newer's."""


def _straight(window: Trajectories, distance: int) -> np.ndarray:
    """(candidates, p) places beyond the last state, along its displacement from ``distance`` states before."""
    states = window.weights[0].astype(np.float64)
    return states[-1] + SHARES * (HALF / distance) * (states[-1] - states[-1 - distance])


@dataclass(frozen=True)
class Extrapolation(_EdgeRuns):
    """Straight extrapolation at the edge of stability, along raw weights and along averaged ones.

    Arrays, with the names in ``DIRECTIONS``: cosine/* (tests, places), cosine between the direction and the average
    path's displacement over the next 2 ``HALF`` steps; steps/* (tests,), steps that gradient descent with jumps needs
    to reach its own final loss, where a gate on all examples accepts jumps; steps/alone (tests,), the steps without
    jumps; cost/* (tests,), steps/* plus the gates, each evaluation of the loss counted as a third of a step; NaN if the
    loss is not reached.
    """

    name: ClassVar[str] = "both/extrapolation"

    def compute(self, context: Context) -> Result:
        """Record runs, compare directions, and train with jumps."""
        weights = self.record(self.tested)
        states, average = self.inner(weights), self.smoothed(weights)
        places = range(2 * HALF, self.steps - 2 * HALF + 1, STRIDE)
        later = np.stack([average[:, at + 2 * HALF] - average[:, at] for at in places], axis=1)
        arrays = {}
        for number, (name, rule) in enumerate(DIRECTIONS.items()):
            ways = []
            for run in states:
                windows = [Trajectories(run[None, at - 2 * HALF : at + 1]) for at in places]
                ways.append([np.subtract(*rule(window)[[-1, -2]]) for window in windows])
            arrays[f"cosine/{name}"] = _cosine(np.array(ways), later)
            found = np.array([self._train(run, rule) for run in states])
            arrays[f"steps/{name}"], arrays[f"cost/{name}"] = found.T
            context.progress(number + 1, len(DIRECTIONS))
        arrays["steps/alone"] = np.full(self.tested, float(self.steps))
        return Result(arrays)

    def _train(self, run: np.ndarray, rule: Rule) -> tuple[float, float]:
        """Steps from a run's first state to the loss at its last one, without and with the cost of the gates."""
        data, module = self.examples(), self.module()
        parameters = list(module.parameters())

        def loss() -> Tensor:
            return _loss(module(data.inputs), data.targets)

        nn.utils.vector_to_parameters(torch.from_numpy(run[-1].copy()), parameters)
        with torch.no_grad():
            aim = float(loss())
        nn.utils.vector_to_parameters(torch.from_numpy(run[0].copy()), parameters)
        optimizer = torch.optim.SGD(parameters, lr=self.lr)
        nowcaster = Nowcaster(optimizer, module, rule, seen=2 * HALF, every=1)
        for step in range(1, 2 * self.steps + 1):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            nowcaster.step(loss)
            with torch.no_grad():
                if float(loss()) <= aim:
                    return step, step + nowcaster.evaluations / 3
        return np.nan, np.nan


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss called "mse" by problems."""
    return (outputs - targets).square().sum(-1).mean() / 2


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine along the last axis."""
    return (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
