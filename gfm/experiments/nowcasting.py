"""Forecasts during training: jump ahead now and then, if the training loss agrees."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from gfm.data.digits import digits
from gfm.experiments.base import Experiment, Progress, Result
from gfm.experiments.cost import image_net
from gfm.experiments.forecasting import make_forecaster
from gfm.forecasters import Forecaster
from gfm.trajectories import Trajectories

__all__ = ["Nowcasting"]

BATCH = 128
EVERY = 4  # optimizer steps between recorded states
SEEN = 6  # recorded states after the first of a window: 24 steps
AHEAD = 15  # recorded states forecast: 60 steps
TRIED = (1, 3, 6, 10)  # of these, the ones tried by the gate
GATE_ROWS = 256  # training images a gate looks at


@dataclass(frozen=True)
class _Task:
    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor


def _task() -> _Task:
    # one random split of all images: the file's order separates its writers, which is another question
    data = digits(1500, 10, targets="indices")
    inputs = torch.cat([data.inputs, data.test_inputs])
    targets = torch.cat([data.targets, data.test_targets])
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    train, test = order[:1500], order[1500:]
    return _Task(inputs[train], targets[train], inputs[test], targets[test])


def _trajectories(states: np.ndarray, lr: float) -> Trajectories:
    """(runs, states, 3, weights) as trajectories with AdamW's state."""
    states = states.astype(np.float64)
    return Trajectories(
        states[:, :, 0],
        steps=np.arange(states.shape[1]) * EVERY,
        meta={"optimizer": "AdamW", "lr": lr},
        states={"momentum": states[:, :, 1], "second": states[:, :, 2]},
    )


class _Run:
    """One training run: steps on seeded batches, recorded, with jumps if asked."""

    def __init__(self, task: _Task, lr: float, seed: int) -> None:
        self.task = task
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = image_net()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.lr, self.steps = lr, 0
        self.recorded = [self.state()]

    def state(self) -> np.ndarray:
        """(3, weights) weights and AdamW's two averages."""
        rows = [parameters_to_vector(self.net.parameters()).detach()]
        for name in ("exp_avg", "exp_avg_sq"):
            found = [self.optimizer.state[p].get(name) for p in self.net.parameters()]
            rows.append(
                torch.zeros_like(rows[0])
                if found[0] is None
                else torch.cat([value.flatten() for value in found])
            )
        return torch.stack(rows).numpy().copy()

    def observed(self) -> Trajectories:
        """The last states, as a forecaster sees them."""
        return _trajectories(np.stack(self.recorded[-SEEN - 1 :])[None], self.lr)

    def weights(self) -> np.ndarray:
        return parameters_to_vector(self.net.parameters()).detach().numpy().copy()

    def put(self, weights: np.ndarray) -> None:
        vector_to_parameters(torch.from_numpy(weights.astype(np.float32)), self.net.parameters())

    def step(self) -> None:
        rows = torch.randint(len(self.task.inputs), (BATCH,), generator=self.generator)
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.task.inputs[rows]), self.task.targets[rows]).backward()
        self.optimizer.step()
        self.steps += 1
        if self.steps % EVERY == 0:
            self.recorded.append(self.state())

    @torch.no_grad()
    def loss(self, test: bool = False, rows: Tensor | None = None) -> tuple[float, float]:
        """Loss and accuracy on the test images, or on the given training images."""
        task = self.task
        x, y = (task.test_inputs, task.test_targets) if test else (task.inputs[rows], task.targets[rows])
        out = self.net(x)
        return F.cross_entropy(out, y).item(), (out.argmax(1) == y).float().mean().item()

    def jump(self, model: Forecaster) -> bool:
        """Try the forecasts at some horizons; keep the one of least training loss, if it is lower."""
        forecast = model.forecast(self.observed(), AHEAD)[0]
        rows = torch.randint(len(self.task.inputs), (GATE_ROWS,), generator=self.generator)
        here = self.weights()
        best, chosen = self.loss(rows=rows)[0], None
        for ahead in TRIED:
            self.put(forecast[ahead])
            value = self.loss(rows=rows)[0]
            if value < best:
                best, chosen = value, forecast[ahead]
        self.put(here if chosen is None else chosen)
        if chosen is not None:
            self.recorded = [self.state()]  # the path is broken here
        return chosen is not None


@dataclass(frozen=True)
class Nowcasting(Experiment):
    """Digits, 14,378 weights, AdamW: steps to a test loss, with and without jumps ahead.

    A forecaster is fitted on windows of three runs of other seeds (24 steps seen, 60 ahead, a thousand
    weights of each window) and applied after every ``period`` steps of new runs. A jump is kept if it
    lowers the loss on 256 training images; the optimizer's state is kept as it is. The gate's cost is
    counted: five forward passes on 256 images are ten thirds of a training step on 128.

    forecaster: its name; ``"none"`` trains on. aware: whether the flow sees AdamW's averages. seeds: test runs 0..seeds-1. threshold: test loss to be
    reached (best so far, looked at every four steps).

    Arrays: steps, cost (seeds,) steps to the threshold and the same with the gates' cost (NaN where it
    is not reached); jumps, kept (seeds,); at (seeds, 3, 4, 2) loss and accuracy on the test images some steps
    (TRIED) after the first period: held, forecast, trained on; error (seeds, 2) squared weight error of
    hold and forecast at the farthest of them.
    """

    name: ClassVar[str] = "gfm/nowcasting"

    forecaster: str = "none"
    aware: bool = False
    lr: float = 3e-3
    seeds: int = 3
    period: int = 40
    threshold: float = 0.15
    most: int = 600
    fitted_runs: int = 3
    fitted_steps: int = 320
    epochs: int = 40

    def compute(self, progress: Progress) -> Result:
        task = _task()
        model = None if self.forecaster == "none" else self._fit(task)
        names = ("steps", "cost", "jumps", "kept", "at", "error")
        out: dict[str, list] = {name: [] for name in names}
        for seed in range(self.seeds):
            for name, value in self._train(task, seed, model).items():
                out[name].append(value)
            progress(seed + 1, self.seeds)
        title = "train on" if model is None else model.title
        seconds = 0.0 if model is None else model.report.seconds
        return Result({n: np.array(v, dtype=float) for n, v in out.items()},
                      {"title": title, "fit": seconds})

    def _fit(self, task: _Task) -> Forecaster:
        rng = np.random.default_rng(0)
        windows, span = [], SEEN + AHEAD + 1
        for seed in range(self.fitted_runs):
            run = _Run(task, self.lr, 1000 + seed)
            while run.steps < self.fitted_steps:
                run.step()
            states = np.stack(run.recorded)
            for start in range(0, len(states) - span, 4):
                some = rng.choice(states.shape[2], 1000, replace=False)
                windows.append(states[start : start + span, :, some])
        order = rng.permutation(len(windows))
        data = _trajectories(np.stack(windows)[order], self.lr)
        held = max(len(windows) // 4, 1)
        options = {"aware": self.aware} if self.forecaster.startswith("gfm") else {}
        model = make_forecaster(self.forecaster, SEEN, self.epochs, **options)
        return model.fit(*data.split(len(windows) - held, held))

    def _train(self, task: _Task, seed: int, model: Forecaster | None) -> dict:
        run, gates, kept, jumps = _Run(task, self.lr, seed), 0.0, 0, 0
        result = {"at": np.full((3, len(TRIED), 2), np.nan), "error": np.full(2, np.nan)}
        reached = False
        while run.steps < self.most and not reached:
            run.step()
            if model is not None and run.steps == self.period:
                result = self._look_ahead(run, model)
            ready = len(run.recorded) > SEEN and run.steps % EVERY == 0
            if model is not None and ready and run.steps % self.period == 0:
                jumps += 1
                gates += 10 / 3
                kept += run.jump(model)
            if run.steps % EVERY == 0:
                reached = run.loss(test=True)[0] <= self.threshold
        steps = run.steps if reached else np.nan
        return {**result, "steps": steps, "cost": steps + gates, "jumps": jumps, "kept": kept}

    @staticmethod
    def _look_ahead(run: _Run, model: Forecaster) -> dict:
        """Held, forecast and trained on, at the tried horizons, in a copy of the run."""
        other = copy.copy(run)
        other.net, other.recorded = copy.deepcopy(run.net), list(run.recorded)
        other.generator = torch.Generator()
        other.generator.set_state(run.generator.get_state())
        other.optimizer = torch.optim.AdamW(other.net.parameters(), fused=True)
        other.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
        hold, forecast = other.weights(), model.forecast(other.observed(), AHEAD)[0]
        held, ahead, trained = [other.loss(test=True)] * len(TRIED), [], []
        for horizon in TRIED:
            other.put(forecast[horizon])
            ahead.append(other.loss(test=True))
        other.put(hold)
        for horizon in TRIED:
            while other.steps < run.steps + EVERY * (horizon + 1):
                other.step()
            trained.append(other.loss(test=True))
        truth = other.weights()
        error = [np.square(w - truth).mean() for w in (hold, forecast[TRIED[-1]])]
        return {"at": np.array([held, ahead, trained]), "error": np.array(error)}
