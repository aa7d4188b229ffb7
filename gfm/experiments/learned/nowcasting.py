"""Forecasts during training: jump ahead from time to time if that lowers the training loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gfm.data import Dataset
from gfm.experiments.learned.image_tasks import SETS, network, task
from gfm.experiments.learned.least_squares import make_forecaster
from gfm.experiments.learned.nowcast_run import EVERY, TrainingRun, gate_cost, recorded, trajectories
from gfm.forecasters import Forecaster
from gfm.forecasting.training import Training
from gfm.matching import Conditioning
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["Nowcasting"]

SCALED = Conditioning(scale="run", optimizer_state=True)
OPTIONS: dict[str, dict[str, Any]] = {  # where a forecaster's own defaults are not used
    # scale: by the held-out weight error, "none" was chosen at 6e-4, and saved fewer steps
    "affine-flow": {"view": "coordinate", "conditioning": SCALED, "products": True},
    "gfm": {"view": "coordinate", "conditioning": SCALED},
    # batches of whole networks: smaller and fewer, for the same number of steps in minutes
    "nino": {"width": 32, "training": Training(rate=3e-3, batch=4, epochs=10, decay=1e-2)},
}
SOME = 1000  # number of weights per window to which a forecaster without a graph is fitted


@dataclass(frozen=True)
class Nowcasting(Experiment):
    """Steps of AdamW to a test loss, with and without jumps ahead, for image networks of about 14,400 weights.

    A forecaster is fitted to windows of a few runs with other seeds: ``seen`` recorded states after the first,
    then as many as the farthest of ``ahead``, with a thousand weights of each window (all of them if the
    forecaster needs the network's graph). In new runs it is applied at every ``period``-th step at which a
    window is full; after a jump a new window begins. Of the forecasts at ``ahead`` recorded states (four steps
    each) the one with the least loss on 256 training images is taken, if that is lower than the loss of the
    present weights; the optimizer's state is kept. The gate's cost is counted in training steps, by its forward
    passes (:func:`gfm.experiments.learned.nowcast_run.gate_cost`).

    Arrays: steps, cost (seeds,) steps to the threshold without and with the gates' cost (NaN if it is not
    reached); jumps, kept (seeds,) numbers of gates and of accepted jumps; at (seeds, 3, len(ahead), 2) loss and
    accuracy on the test images at each of ``ahead`` after the first full window, for weights that are held,
    forecast, or trained further; error (seeds, 2) squared weight error of hold and forecast at the farthest of
    them. Info: title, fit (seconds), gate (steps each), parameters (numbers fitted), images (the data set's
    name), weights (of the network), threshold.

    Args:
        forecaster: its name; ``"none"`` trains without jumps.
        data: a name of :func:`gfm.experiments.learned.image_tasks.task`.
        fitted_on: the data (and with them the network) of the runs that it is fitted to; "" means ``data``.
        lr: AdamW's learning rate.
        seeds: number of test runs, with seeds first, first+1, ...
        threshold: test loss to be reached (best so far, evaluated every four steps); None means the data set's
            own (``task`` says how it was chosen).
        most: maximum number of steps.
        fitted_runs, fitted_steps: number and length of the runs to fit to (seeds from 1000 on).
        stride: recorded states between the starts of windows.
        epochs: maximum number of epochs of a fit.

    Raises:
        UnknownNameError: The data set is unknown.
        InputError: The images are unsuitable.
        UnreadableFileError: The images cannot be read.
    """

    name: ClassVar[str] = "gfm/nowcasting"

    forecaster: str = "none"
    lr: float = 3e-3
    seeds: int = 3
    first: int = 0
    period: int = 8
    seen: int = 6
    ahead: tuple[int, ...] = (1, 3, 7, 15)
    threshold: float | None = None
    most: int = 600
    fitted_runs: int = 3
    fitted_steps: int = 320
    stride: int = 4
    epochs: int = 40
    data: str = "digits"
    fitted_on: str = ""

    def data_fingerprint(self) -> str:
        """The digest of the images, and of those of the fitted runs if they are different."""
        own = task(self.data).fingerprint
        return own + task(self.fitted_on).fingerprint if self.fitted_on else own

    def compute(self, context: Context) -> Result:
        """Fit the forecaster, then train with its jumps, once per seed."""
        data = task(self.data)
        model = None if self.forecaster == "none" else self._fit(task(self.fitted_on or self.data))
        out: dict[str, list] = {name: [] for name in ("steps", "cost", "jumps", "kept", "at", "error")}
        for seed in range(self.first, self.first + self.seeds):
            for name, value in self._train(data, seed, model).items():
                out[name].append(value)
            context.progress(seed - self.first + 1, self.seeds)
        info = {"title": "train on", "fit": 0.0, "gate": gate_cost(len(self.ahead)), "parameters": 0}
        info |= {"images": SETS[self.data].title, "threshold": self._goal()}
        info["weights"] = sum(p.numel() for p in network(data).parameters())
        if model is not None:
            info |= {"title": model.title, "fit": model.fitted.seconds}
            info["parameters"] = int(model.fitted.parameters)
        return Result({n: np.array(v, dtype=float) for n, v in out.items()}, info)

    def _goal(self) -> float:
        return SETS[self.data].threshold if self.threshold is None else self.threshold

    def _fit(self, data: Dataset) -> Forecaster:
        rng = np.random.default_rng(0)
        graph = self.forecaster == "nino"
        windows, firsts, span = [], [], self.seen + max(self.ahead) + 1
        for seed in range(self.fitted_runs):
            states = recorded(data, self.lr, 1000 + seed, self.fitted_steps)
            for start in range(0, len(states) - span + 1, self.stride):
                window = states[start : start + span]
                if not graph:
                    window = window[:, :, rng.choice(states.shape[2], SOME, replace=False)]
                windows.append(window)
                firsts.append(start)
        order = rng.permutation(len(windows))
        counts = EVERY * (np.array(firsts)[order, None] + np.arange(span))
        fitted = trajectories(np.stack(windows)[order], self.lr, counts, network(data) if graph else None)
        held = max(len(windows) // 4, 1)
        options = OPTIONS.get(self.forecaster, {})
        model = make_forecaster(self.forecaster, self.seen, self.epochs, **options)
        return model.fit(*fitted.split(len(windows) - held, held))

    def _train(self, data: Dataset, seed: int, model: Forecaster | None) -> dict:
        run, kept, jumps, reached = TrainingRun(data, self.lr, seed, self.seen), 0, 0, False
        result = {"at": np.full((3, len(self.ahead), 2), np.nan), "error": np.full(2, np.nan)}
        while run.steps < self.most and not reached:
            run.step()
            ready = len(run.recorded) > self.seen and run.steps % EVERY == 0
            if model is not None and ready and run.steps % self.period == 0:
                if jumps == 0:
                    result = self._look_ahead(run, model)
                jumps += 1
                kept += run.jump(model, self.ahead)
            if run.steps % EVERY == 0:
                reached = run.loss(test=True)[0] <= self._goal()
        steps = run.steps if reached else np.nan
        gates = jumps * gate_cost(len(self.ahead))
        return {**result, "steps": steps, "cost": steps + gates, "jumps": jumps, "kept": kept}

    def _look_ahead(self, run: TrainingRun, model: Forecaster) -> dict:
        """Results for held, forecast and further trained weights at the horizons, in a copy of the run."""
        other = run.twin()
        hold, forecast = other.weights(), model.forecast(other.observed(), max(self.ahead))[0]
        held, ahead, trained = [other.loss(test=True)] * len(self.ahead), [], []
        for states in self.ahead:
            other.put(forecast[states - 1])
            ahead.append(other.loss(test=True))
        other.put(hold)
        for states in self.ahead:
            while other.steps < run.steps + EVERY * states:
                other.step()
            trained.append(other.loss(test=True))
        truth = other.weights()
        error = [np.square(w - truth).mean() for w in (hold, forecast[self.ahead[-1] - 1])]
        return {"at": np.array([held, ahead, trained]), "error": np.array(error)}
