"""Forecasting the least-squares sets: one forecaster on one set, over the samples."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from gfm.checks import known
from gfm.data.least_squares import LeastSquaresSet, least_squares, shared_least_squares
from gfm.forecasters import Forecaster, Residual, available
from gfm.store.experiment import Context, Experiment, Result
from gfm.trajectories import Trajectories

__all__ = ["KNOWN", "PUBLISHED", "LeastSquaresForecast", "add_report", "make_forecaster", "replicate_set"]

SPLIT = (100, 50, 50)
PUBLISHED = 5
"""Samples of the earlier paper; they share inputs, starts and mini-batches."""

KNOWN = {
    # (weights, optimizer, forecaster): mean test error over the five samples at steps 40, 100, 200,
    # from an independent computation on the published data; errors must agree with it to 2 %
    (1, "GD", "hold"): (2.74e-2, 2.53e-1, 5.79e-1),
    (1, "GD", "linear-ends"): (1.36e-3, 9.46e-2, 1.13),
    (1, "SGD", "hold"): (1.91e-2, 1.97e-1, 5.14e-1),
    (1, "SGD", "ols"): (4.96e-4, 4.00e-3, 1.47e-2),
    (1, "SGD", "ols-ends"): (3.88e-4, 2.81e-3, 9.23e-3),
    (1, "SGD", "geometric"): (1.89e-3, 5.93e-2, 4.74e-1),
    (1, "SGD", "linear-ends"): (1.27e-3, 5.44e-2, 6.38e-1),
    (3, "GD", "hold"): (2.34e-2, 2.30e-1, 5.76e-1),
    (3, "GD", "ols-ends"): (1.89e-5, 1.01e-3, 7.72e-3),
    (3, "GD", "geometric"): (3.2e-7, 3.2e-5, 4.7e-4),
    (3, "SGD", "hold"): (2.20e-2, 2.16e-1, 5.60e-1),
    (3, "SGD", "ols"): (1.22e-3, 9.35e-3, 2.87e-2),
    (3, "SGD", "ols-ends"): (1.06e-3, 8.38e-3, 2.60e-2),
}


@lru_cache(maxsize=32)  # every forecaster of a table asks for the same sets
def replicate_set(dimension: int, optimizer: str, number: int) -> LeastSquaresSet:
    """Set ``number``: a published one up to PUBLISHED, and an independently drawn one above."""
    draw = 0 if number <= PUBLISHED else number
    return least_squares(dimension, optimizer, number, draw=draw)


def make_forecaster(
    name: str, observed: int, epochs: int | None = None, seed: int | None = None, over_affine: bool = False,
    **options: Any,
) -> Forecaster:
    """A forecaster by name, with its training (if any) seeded and limited to ``epochs``.

    Args:
        name: a registered name; for a flow also with its view, as in ``"gfm/vector"``.
        observed: the number of the last observed state.
        epochs: of its training, at most; None for the forecaster's own.
        seed: of its training; likewise.
        over_affine: whether it forecasts the residuals of the affine flow (:class:`Residual`).
        **options: arguments of its class.

    Raises:
        UnknownNameError: There is no such forecaster.
    """
    table = available()
    name, _, view = name.partition("/")
    known("forecaster", name, table)
    if view:
        options["view"] = view
    model = table[name](observed=observed, **options)
    training = getattr(model, "training", None)
    if training is not None:
        most, own = training.epochs if epochs is None else epochs, training.seed if seed is None else seed
        model.training = replace(training, epochs=min(most, training.epochs), seed=own)  # type: ignore[attr-defined]
    return Residual(observed, model) if over_affine else model


def add_report(info: dict[str, list], model: Forecaster) -> None:
    """Append to each list of ``info`` the value of that name in the model's fit report (notes as text)."""
    for name, values in info.items():
        value = getattr(model.fitted, name)
        values.append({k: str(v) for k, v in value.items()} if name == "notes" else value)


@dataclass(frozen=True)
class LeastSquaresForecast(Experiment):
    """Mean squared test error of the weights at every step after the observed ones.

    Arrays: errors (samples, horizon); forecasts (keep, horizon, dimension), truth (keep, steps+1, dimension).
    Info: seconds, parameters and epochs by sample, title, what validation chose.

    Args:
        forecaster: its name.
        dimension, optimizer: the set.
        samples: samples 1..samples are run, each with its own initial weights if the forecaster is a network;
            those after the five published ones are independent (:func:`replicate_set`).
        shared: whether all runs of a sample share one task.
        observed: last observed step.
        epochs: maximum number of epochs; None for the forecaster's own.
        over_affine: whether the forecaster forecasts the residuals of the affine flow.
        keep: number of test runs of sample 1 whose forecasts are kept.
    """

    name: ClassVar[str] = "gfm/least-squares"

    forecaster: str = "hold"
    dimension: int = 1
    optimizer: str = "GD"
    samples: int = 5
    shared: bool = False
    observed: int = 20
    epochs: int | None = None
    over_affine: bool = False
    keep: int = 6

    def compute(self, context: Context) -> Result:
        """Fit and forecast each sample in turn."""
        make = shared_least_squares if self.shared else replicate_set
        errors: list[np.ndarray] = []
        info: dict[str, list] = {"seconds": [], "parameters": [], "epochs": [], "notes": []}
        arrays: dict[str, np.ndarray] = {}
        for sample in range(1, self.samples + 1):
            data = Trajectories(make(self.dimension, self.optimizer, sample).weights)
            train, validation, test = data.split(*SPLIT)
            model = make_forecaster(
                self.forecaster, self.observed, self.epochs, seed=sample, over_affine=self.over_affine
            )
            add_report(info, model.fit(train, validation=validation, device=context.device()))
            forecast = model.forecast(test.prefix(self.observed))
            truth = test.weights[:, self.observed + 1 :]
            errors.append(np.square(forecast - truth).mean(axis=(0, 2)))
            if sample == 1 and self.keep:
                arrays["forecasts"] = forecast[: self.keep]
                arrays["truth"] = test.weights[: self.keep]
            context.progress(sample, self.samples)
        return Result({"errors": np.array(errors), **arrays}, {**info, "title": model.title})
