"""Steps to a test loss with and without jumps ahead, compared with rules and optimizers that are not learned."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from gfm.checks import one_of
from gfm.data import Dataset
from gfm.experiments.learned.image_tasks import SETS, network, task
from gfm.experiments.learned.least_squares import make_forecaster
from gfm.experiments.learned.nowcast_run import (
    BATCH,
    Averaged,
    Companion,
    Jumps,
    Outer,
    TrainingRun,
    recorded,
    trajectories,
)
from gfm.forecasters import Forecaster, available
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, LayerwiseFlow, Tuning
from gfm.nowcasting import Nowcaster, Rule, merged
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["FITLESS", "Nowcasting"]

BLIND = "-blind"
"""Ending of the name of a flow that sees weights only, as most nowcasters do."""
SCALED, UNSEEN = (Conditioning(scale="run", optimizer_state=state) for state in (True, False))
OPTIONS: dict[str, dict[str, Any]] = {  # where a forecaster's own defaults are not used
    # scale: the held-out weight error chose "none" at lr = 6e-4, which saved fewer steps
    "affine-flow": {"view": "coordinate", "conditioning": SCALED, "products": True},
    "gfm": {"view": "coordinate", "conditioning": SCALED},
    "affine-flow" + BLIND: {"view": "coordinate", "conditioning": UNSEEN},
    "gfm" + BLIND: {"view": "coordinate", "conditioning": UNSEEN},
    # batches of whole networks: a few epochs of small batches take minutes
    "nino": {"training": Training(rate=6e-3, batch=4, epochs=25, decay=1e-2, schedule="one-cycle")},
}
SOME = 1000  # number of weights per window to which a forecaster of single weights is fitted
TUNING_ROWS = 256  # training images of a tuning's batch
TUNED = "loss-tuned"
FITLESS = {
    # name -> title, what it does and the meaning of its settings
    "none": "AdamW alone",
    "decay": "AdamW, rate falling to 0",  # number of steps over which it falls
    "schedule-free": "Schedule-free AdamW",  # multiple of the learning rate
    "ema": "EMA, at evaluation",  # length
    "lawa": "LAWA, at evaluation",  # number of weights
    "lookahead": "Lookahead",  # period, rate
    "snoo": "SNOO",  # period, rate, momentum
    "extra-merge": "Extra-Merge-like",  # multiple of the distance between the two means
    "line-search": "Line search along the mean way",  # the multiples that are tried
}


class _ScheduleFreeMean(Companion):
    def evaluated(self, run: TrainingRun) -> Tensor | None:
        return torch.cat([x.reshape(-1) for x in run.optimizer.averages()])  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Nowcasting(Experiment):
    """Steps of AdamW to a test loss with a method that may save some, for image networks of about 14,400 weights.

    A forecaster is fitted to windows of a few runs with other seeds: ``seen`` recorded states after the first,
    followed by as many as the farthest of ``ahead``, with a thousand weights of each window (all of them if the
    forecaster uses the whole network). In new runs a :class:`gfm.Nowcaster` applies it. ``"loss-tuned"`` is the
    layerwise flow, tuned on the training loss of these windows and of windows from further runs in which it jumps.
    A gate's forward passes are counted in training steps.

    Arrays: steps, cost (seeds,) steps to the threshold without and with the gates' cost (NaN if it is not
    reached); looks, jumps (seeds,) numbers of gates and of jumps; at (seeds, 3, len(ahead), 2) loss and accuracy on
    the test images at each of ``ahead`` after the first full window, for weights that are held, forecast, or
    trained further; error (seeds, 2) squared weight error of hold and forecast at the farthest of them.
    Info: title, fit (seconds, recording included), fit_steps (recording, tuning and playing, in training steps),
    parameters (numbers fitted), epochs (of the fit), images (the data set's name), weights (of the network), threshold.

    Args:
        method: a forecaster's name, that of a flow followed by ``"-blind"``, ``"loss-tuned"``, or one of FITLESS.
        settings: of a method in FITLESS, with the meaning given there.
        data: a name of :func:`gfm.experiments.learned.image_tasks.task`.
        fitted_on: the data (and so the network) of the runs to which it is fitted; "" means ``data``.
        lr: AdamW's learning rate.
        seeds: number of test runs, with seeds first, first+1, ...
        every: steps between recorded states.
        period: least number of steps between two looks.
        gate: training images in a gate's loss; 0 jumps without one.
        threshold: test loss to be reached (best so far, evaluated every ``evaluate`` steps); None means the data set's
            own (``task`` says how it was chosen).
        most: maximum number of steps.
        fitted_runs, fitted_steps: number and length of the runs to fit to (seeds from 1000 on).
        stride: recorded states between the starts of windows.
        epochs: maximum number of epochs of a fit; None for the forecaster's own.
        rounds, tuning_steps: of the tuning, see :class:`gfm.matching.Tuning`.
        played_runs, played_steps: number and length of the runs that follow the flow in each round (seeds from 2000).

    Raises:
        UnknownNameError: The data set or the method is unknown.
        InputError: The images are unsuitable.
        UnreadableFileError: The images cannot be read.
    """

    name: ClassVar[str] = "gfm/nowcasting"

    method: str = "none"
    settings: tuple[float, ...] = ()
    lr: float = 3e-3
    seeds: int = 3
    first: int = 0
    every: int = 4
    period: int = 8
    seen: int = 6
    ahead: tuple[int, ...] = (1, 3, 7, 15)
    gate: int = 256
    threshold: float | None = None
    evaluate: int = 4
    most: int = 600
    fitted_runs: int = 3
    fitted_steps: int = 320
    stride: int = 4
    epochs: int | None = 40
    rounds: int = 3
    tuning_steps: int = 400
    played_runs: int = 6
    played_steps: int = 280
    data: str = "digits"
    fitted_on: str = ""

    def data_fingerprint(self) -> str:
        """The digest of the images, and of those of the fitted runs if they are different."""
        own = task(self.data).fingerprint
        return own + task(self.fitted_on).fingerprint if self.fitted_on else own

    def compute(self, context: Context) -> Result:
        """Fit the forecaster, if there is one, then train once per seed."""
        data = task(self.data)
        one_of("method", self.method, (*FITLESS, TUNED, *OPTIONS, *available()))
        started = time.perf_counter()
        model, work = None, 0.0
        if self.method not in FITLESS:
            model, work = self._fit(task(self.fitted_on or self.data), context.device())
        seconds = time.perf_counter() - started
        out: dict[str, list] = {name: [] for name in ("steps", "cost", "looks", "jumps", "at", "error")}
        for seed in range(self.first, self.first + self.seeds):
            for name, value in self._train(data, seed, model).items():
                out[name].append(value)
            context.progress(seed - self.first + 1, self.seeds)
        info = {"title": FITLESS.get(self.method, ""), "fit": seconds, "fit_steps": work, "parameters": 0}
        info |= {"images": SETS[self.data].title, "threshold": self._goal()}
        info["weights"] = sum(p.numel() for p in network(data).parameters())
        if model is not None:
            title = "Loss-tuned flow (ours)" if self.method == TUNED else model.title
            title += ", blind" * self.method.endswith(BLIND)
            info |= {"title": title, "parameters": int(model.fitted.parameters), "epochs": model.fitted.epochs}
        return Result({n: np.array(v, dtype=float) for n, v in out.items()}, info)

    def _goal(self) -> float:
        return SETS[self.data].threshold if self.threshold is None else self.threshold

    # -- fitting ---------------------------------------------------------------------------------
    def _fit(self, data: Dataset, device: torch.device) -> tuple[Forecaster, float]:
        """The fitted forecaster, and the work in training steps."""
        name = LayerwiseFlow.name if self.method == TUNED else self.method
        options = OPTIONS.get(name, {})
        model = make_forecaster(name.removesuffix(BLIND), self.seen, self.epochs, **options)
        rng, span = np.random.default_rng(0), self.seen + max(self.ahead) + 1
        windows, firsts = [], []
        for seed in range(self.fitted_runs):
            states = recorded(data, self.lr, 1000 + seed, self.fitted_steps, self.every)
            for start in range(0, len(states) - span + 1, self.stride):
                window = states[start : start + span]
                if model.coordinatewise:
                    window = window[:, :, rng.choice(states.shape[2], SOME, replace=False)]
                windows.append(window)
                firsts.append(start)
        order = rng.permutation(len(windows))
        counts = self.every * (np.array(firsts)[order, None] + np.arange(span))
        net = None if model.coordinatewise else network(data)
        fitted = trajectories(np.stack(windows)[order], self.lr, counts, net)
        held = max(len(windows) // 4, 1)
        work = float(self.fitted_runs * self.fitted_steps)
        if isinstance(model, LayerwiseFlow):
            model.fit(fitted, device=device)
            if self.method == TUNED:
                work += self._tune(model, fitted.prefix(self.seen), data)
        else:
            model.fit(*fitted.split(len(windows) - held, held), device=device)
        return model, work

    def _tune(self, model: LayerwiseFlow, windows: Trajectories, data: Dataset) -> float:
        net = network(data)
        shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
        sizes = [shape.numel() for shape in shapes.values()]

        def loss(weights: Tensor, generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(data.inputs), (TUNING_ROWS,), generator=generator)
            parts = zip(shapes.items(), weights.split(sizes), strict=True)
            named = {name: part.view(shape) for (name, shape), part in parts}
            return F.cross_entropy(functional_call(net, named, (data.inputs[rows],)), data.targets[rows])

        def play(model: LayerwiseFlow, turn: int) -> Trajectories:
            met: list[Trajectories] = []

            def rule(window: Trajectories) -> np.ndarray:
                met.append(window)
                return model.forecast(window, max(self.ahead))[0, -1:]

            for number in range(self.played_runs):
                run = TrainingRun(data, self.lr, 2000 + 100 * turn + number)
                jumps = self._jumps(run, rule, gate=0)
                while run.steps < self.played_steps:
                    run.step()
                    jumps.after_step(run)
            return Trajectories.concat(met)

        tuning = Tuning(steps=self.tuning_steps, rounds=self.rounds)
        model.tune(windows, loss, tuning, play)
        played = self.rounds * self.played_runs * self.played_steps
        return played + (self.rounds + 1) * self.tuning_steps * TUNING_ROWS / BATCH

    # -- training --------------------------------------------------------------------------------
    def _jumps(self, run: TrainingRun, rule: Rule, gate: int) -> Jumps:
        return Jumps(Nowcaster(run.optimizer, run.net, rule, seen=self.seen, every=self.every, period=self.period,
                               gate=gate > 0), gate)

    def _companion(self, run: TrainingRun) -> Companion:
        if self.method == "schedule-free":
            return _ScheduleFreeMean()
        if self.method in ("ema", "lawa"):
            return Averaged(self.settings[0], moving=self.method == "ema")
        if self.method in ("lookahead", "snoo"):
            return Outer(run, *self.settings)  # type: ignore[arg-type]  # a period is made whole there
        if self.method in ("extra-merge", "line-search"):
            return self._jumps(run, merged(self.settings), self.gate if self.method == "line-search" else 0)
        return Companion()

    def _train(self, data: Dataset, seed: int, model: Forecaster | None) -> dict:
        decay = int(self.settings[0]) if self.method == "decay" else 0
        free = self.method == "schedule-free"
        run = TrainingRun(data, self.lr * (self.settings[0] if free else 1), seed, decay, free)
        result = {"at": np.full((3, len(self.ahead), 2), np.nan), "error": np.full(2, np.nan)}

        def rule(window: Trajectories) -> np.ndarray:
            assert model is not None
            forecast = model.forecast(window, max(self.ahead))[0]
            if np.isnan(result["error"]).all():
                result.update(self._look_ahead(run, forecast))
            return forecast[np.array(self.ahead) - 1]

        companion = self._companion(run) if model is None else self._jumps(run, rule, self.gate)
        reached = False
        while run.steps < self.most and not reached:
            run.step()
            companion.after_step(run)
            if run.steps % self.evaluate == 0:
                reached = run.test(companion.evaluated(run))[0] <= self._goal()
        steps = run.steps if reached else np.nan
        counts = (companion.nowcaster.looks, companion.nowcaster.jumps) if isinstance(companion, Jumps) else (0, 0)
        return {**result, "steps": steps, "cost": steps + companion.cost, "looks": counts[0], "jumps": counts[1]}

    def _look_ahead(self, run: TrainingRun, states: np.ndarray) -> dict:
        """Results for held, forecast and further trained weights at the horizons, in a copy of the run."""
        other, hold, forecast = run.twin(), run.flat(), torch.from_numpy(states)
        held, trained = [other.test()] * len(self.ahead), []
        ahead = [other.test(forecast[number - 1]) for number in self.ahead]
        for number in self.ahead:
            while other.steps < run.steps + self.every * number:
                other.step()
            trained.append(other.test())
        truth = other.flat()
        error = [(w - truth).square().mean().item() for w in (hold, forecast[self.ahead[-1] - 1])]
        return {"at": np.array([held, ahead, trained]), "error": np.array(error)}
