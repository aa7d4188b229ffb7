"""What no forecaster can beat on least squares, and what a memoryless field cannot."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from gfm.data.least_squares import BATCH, ROWS, SGD_RATE, LeastSquaresSet, least_squares, shared_least_squares
from gfm.forecasting.series import to_series
from gfm.randomness import seeding
from gfm.store.experiment import Context, Experiment, Progress, Result

__all__ = ["BayesLimit", "TowerProperty", "TrueDynamics", "mean_dynamics"]

OBSERVED = 20
TEST = slice(150, 200)


def mean_dynamics(made: LeastSquaresSet, runs: slice, observed: int = OBSERVED) -> np.ndarray:
    """(runs, horizon, d) the expected path from w_observed with X and w* known: the oracle.

    With mini-batches each step draws 8 of the 100 rows independently, so the expected step is that of
    8/100 of the full matrix, and the expectations of successive steps multiply.
    """
    gram = np.einsum("ind,ine->ide", made.inputs[runs], made.inputs[runs])
    share = 1.0 if made.batches is None else BATCH / ROWS
    shrink = np.eye(gram.shape[1]) - made.rates[runs][:, None, None] * share * gram
    away = made.weights[runs, observed] - made.optima[runs]
    states = []
    for _ in range(made.weights.shape[1] - 1 - observed):
        away = np.einsum("ide,ie->id", shrink, away)
        states.append(made.optima[runs] + away)
    return np.stack(states, axis=1)


@dataclass(frozen=True)
class TrueDynamics(Experiment):
    """Test error of the true expected dynamics, which is only the noise of the later steps.

    Arrays: errors (samples, horizon).
    """

    name: ClassVar[str] = "gfm/true-dynamics"

    dimension: int = 1
    optimizer: str = "SGD"
    shared: bool = False
    samples: int = 5

    def compute(self, context: Context) -> Result:
        """Compute the error of the true mean dynamics for each sample."""
        make = shared_least_squares if self.shared else least_squares
        errors = []
        for sample in range(1, self.samples + 1):
            made = make(self.dimension, self.optimizer, sample)
            truth = made.weights[TEST, OBSERVED + 1 :]
            errors.append(np.square(mean_dynamics(made, TEST) - truth).mean(axis=(0, 2)))
            context.progress(sample, self.samples)
        return Result({"errors": np.array(errors)}, {"title": "True dynamics (oracle)"})


@dataclass(frozen=True)
class BayesLimit(Experiment):
    """Error of the posterior mean given the prefix, under the generating process of the SGD sets.

    It is found by simulation: a network predicts later states from the prefix in ``draws`` new runs of 20 steps. It is
    trained on their exact expectation given task and w_20, which has the same posterior mean as the noisy states
    themselves. Because the network is finite, the value is slightly above the true limit.

    Arrays: steps (9,), errors (samples, 9) on the test runs, expected (9,) the simulated part of the
    error (without the noise of the later steps).
    """

    name: ClassVar[str] = "gfm/bayes-limit"

    dimension: int = 1
    draws: int = 60_000
    epochs: int = 12
    samples: int = 5
    seed: int = 0

    def compute(self, context: Context) -> Result:
        """Fit the posterior mean on simulated runs, and measure its error on the published test runs."""
        steps = np.arange(40, 201, 20)
        prefix, target = self._simulate(steps)
        inputs, unit = self._inputs(prefix)
        moved = (prefix[:, -1] - prefix[:, 0])[:, None]
        later = target - prefix[:, -1:]
        slope = (moved * later).sum(axis=(0, 2)) / np.square(moved).sum(axis=(0, 2))
        rest = (later - slope[:, None] * moved) / unit[:, None, None]
        net, center, spread = self._train(inputs, rest.reshape(len(rest), -1), unit, context.progress)

        def forecast(states: np.ndarray) -> np.ndarray:
            x, s = self._inputs(states)
            with torch.no_grad():
                z = torch.from_numpy(np.clip((x - center) / spread, -6, 6)).float()
                out = net(z).double().numpy().reshape(len(states), len(steps), -1)
            step = (states[:, -1] - states[:, 0])[:, None]
            return states[:, -1:] + slope[:, None] * step + s[:, None, None] * out

        errors = []
        for sample in range(1, self.samples + 1):
            test = least_squares(self.dimension, "SGD", sample).weights[TEST]
            wrong = forecast(test[:, : OBSERVED + 1]) - test[:, steps]
            errors.append(np.square(wrong).mean(axis=(0, 2)))
        expected = np.square(forecast(prefix[:2000]) - target[:2000]).mean(axis=(0, 2))
        return Result(
            {"steps": steps, "errors": np.array(errors), "expected": expected}, {"title": "Bayes limit (simulated)"}
        )

    def _simulate(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(draws, 21, d) prefixes and (draws, 9, d) expected later states."""
        rng = np.random.default_rng(self.seed)
        d, count = self.dimension, self.draws
        inputs = rng.normal(size=(count, ROWS, d))
        optima = rng.normal(size=(count, d))
        weights = np.empty((count, OBSERVED + 1, d))
        weights[:, 0] = rng.uniform(size=(count, d))
        for step in range(OBSERVED):
            order = np.argpartition(rng.random((count, ROWS), dtype=np.float32), BATCH, axis=1)
            rows = np.take_along_axis(inputs, order[:, :BATCH, None], axis=1)
            wrong = np.einsum("ind,id->in", rows, weights[:, step] - optima)
            weights[:, step + 1] = weights[:, step] - SGD_RATE * np.einsum("in,ind->id", wrong, rows)
        values, vectors = np.linalg.eigh(np.einsum("ind,ine->ide", inputs, inputs))
        away = np.einsum("ide,id->ie", vectors, weights[:, -1] - optima)
        shrink = 1 - SGD_RATE * BATCH / ROWS * values
        later = [optima + np.einsum("ide,ie->id", vectors, away * shrink ** (step - OBSERVED)) for step in steps]
        return weights, np.stack(later, axis=1)

    @staticmethod
    def _inputs(prefix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The run's increments and last state, in units of its movement, and that unit."""
        unit = np.sqrt(np.square(prefix[:, -1] - prefix[:, 0]).mean(axis=1))
        steps = np.diff(prefix, axis=1).reshape(len(prefix), -1) * OBSERVED / unit[:, None]
        place = prefix[:, -1]
        return np.hstack([steps, place, place / unit[:, None], np.log(unit)[:, None]]), unit

    def _train(
        self, inputs: np.ndarray, rest: np.ndarray, unit: np.ndarray, progress: Progress
    ) -> tuple[nn.Module, np.ndarray, np.ndarray]:
        center, spread = inputs.mean(axis=0), inputs.std(axis=0)
        x = torch.from_numpy(np.clip((inputs - center) / spread, -6, 6)).float()
        y, weight = torch.from_numpy(rest).float(), torch.from_numpy(unit**2).float()[:, None]
        with seeding(self.seed):
            net = nn.Sequential(
                nn.Linear(x.shape[1], 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, y.shape[1])
            )
        last = net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.Adam(net.parameters(), fused=True)
        per_epoch = -(-len(x) // 500)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, self.epochs * per_epoch)
        for epoch in range(self.epochs):
            for rows in torch.randperm(len(x), generator=generator).split(500):
                loss = (weight[rows] * (net(x[rows]) - y[rows]).square()).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            progress(epoch + 1, self.epochs)
        return net, center, spread


@dataclass(frozen=True)
class TowerProperty(Experiment):
    """Forecasts by velocities matched at each step by least squares on (w_k, prefix, 1) and integrated, and by OLS.

    Arrays: matched, regressed (test runs, horizon, d): the two forecasts.
    """

    name: ClassVar[str] = "gfm/tower-property"

    dimension: int = 3
    optimizer: str = "SGD"
    sample: int = 1

    def compute(self, context: Context) -> Result:
        """Forecast the test runs by both routes."""
        weights = least_squares(self.dimension, self.optimizer, self.sample).weights
        train, test = to_series(weights[:100]), to_series(weights[TEST])
        seen, other = (np.hstack([part[:, [0, OBSERVED]], np.ones((len(part), 1))]) for part in (train, test))
        w, matched = test[:, OBSERVED], []
        for k in range(OBSERVED, train.shape[1] - 1):
            # At the last observed step the state is already among the inputs, so its own column stays zero.
            state = train[:, [k]] if k > OBSERVED else np.zeros((len(train), 1))
            features = np.hstack([state, seen])
            fit = np.linalg.lstsq(features, train[:, k + 1] - train[:, k], rcond=None)[0]
            w = w + np.hstack([w[:, None], other]) @ fit
            matched.append(w)
        fit = np.linalg.lstsq(seen, train[:, OBSERVED + 1 :], rcond=None)[0]
        return Result({"matched": np.stack(matched, axis=1), "regressed": other @ fit})
