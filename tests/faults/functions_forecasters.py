"""Valid calls and bad values: forecasters and learned flows."""

import inspect
from pathlib import Path

from bad_calls import Function
from bad_values import AMOUNT, COUNT, FLAG, HUGE, MADE, NAME, RATE, SEED, SEVERAL, WHOLE, but, paths, targets
from functions_trajectories import DATA, PREFIX, WEIGHTS, W

import gfm
from gfm import Trajectories
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, IncrementPath, Network, Solver, Tuning

QUICK = Training(epochs=1, patience=1, batch=8)
FIT = {
    "train": MADE | {"an array": W},
    "validation": but(MADE, "None") | {"other": Trajectories(W[:, :5])},
    "max_weights": but(COUNT, "None"),
    "device": but(NAME, "None") | {"no such": "cuda:77", "meta": "meta", "mps": "mps"},
}


def made(cls, **options):
    model = cls(4, **options)
    if hasattr(model, "training"):
        model.training = QUICK
    return model


def forecasters() -> list[Function]:
    here = Path.cwd()
    functions = []
    group = {
        "conditioning": MADE,
        "solver": MADE,
        "network": MADE,
        "path": but(MADE, "None"),
        "training": but(MADE, "None"),
        "penalty": AMOUNT,
        "optimizer_state": FLAG,
        "columns": but(SEVERAL, "None", "a negative one"),
        "rank": COUNT,
        "width": COUNT | {"huge": HUGE},
        "rival": but(MADE, "None"),
        "view": NAME,
        "damping": NAME,
        "ridges": but(SEVERAL, "halves"),
        "hidden": SEVERAL | {"huge": (HUGE,)},
        "samples": COUNT | {"huge": HUGE},
        "time": FLAG,
        "products": FLAG,
        "observed": but(COUNT, "None"),
        "paths": MADE,
    }
    for cls in gfm.forecasters.available().values():
        options = list(inspect.signature(cls).parameters)
        functions.append(Function(f"{cls.__name__}", cls, {}, {option: group[option] for option in options}))
        model = made(cls).fit(DATA)

        def learned(value, cls=cls):
            """Steps at other distances mean nothing to what has learned nothing."""
            return {"other distances": value} if cls.learns() else {}

        functions += [
            Function(
                f"{cls.__name__}.fit",
                lambda cls=cls, **given: made(cls).fit(**given),
                {"train": DATA},
                FIT
                | {
                    "several": {"too short": {"train": DATA.prefix(4)}}
                    | learned({"train": Trajectories(W, [*range(12), 20])})
                },
            ),
            Function(
                f"{cls.__name__}.forecast",
                model.forecast,
                {"prefix": PREFIX},
                {
                    "prefix": WEIGHTS
                    | {"too long": DATA.prefix(5)}
                    | learned(Trajectories(PREFIX.weights, range(0, 10, 2))),
                    "horizon": but(COUNT, "None") | {"too far": 10**6 if cls.bounded else HUGE},
                },
            ),
        ]
    model = made(gfm.forecasters.OLS).fit(DATA)
    kept = model.save(here / "model.npz")
    functions += [
        Function("Forecaster.save", model.save, {"path": here / "model.npz"}, {"path": targets(here)}),
        Function("forecasters.load", gfm.forecasters.load, {"path": kept}, {"path": paths(here)}),
        Function(
            "OLS.forecast, not fitted",
            lambda model: model.forecast(PREFIX),
            {"model": model},
            {"model": {name: cls(4) for name, cls in gfm.forecasters.available().items()}},
        ),
        Function(
            "Training",
            Training,
            {},
            {
                "rate": RATE,
                "batch": COUNT,
                "epochs": COUNT,
                "patience": COUNT,
                "seed": SEED,
                "decay": AMOUNT,
                "schedule": NAME,
            },
        ),
        Function(
            "Conditioning",
            Conditioning,
            {},
            {"context": NAME, "scale": NAME, "optimizer_state": but(NAME, "True", "False")},
        ),
        Function("Solver", Solver, {}, {"method": NAME, "substeps": COUNT, "dtype": NAME, "memory": COUNT}),
        Function(
            "Network", Network, {}, {"hidden": SEVERAL | {"a list": [3]}, "state": NAME, "knots": COUNT, "times": COUNT}
        ),
        Function("IncrementPath", IncrementPath, {}, {"within": NAME, "noise": AMOUNT, "span": COUNT}),
        Function("Tuning", Tuning, {}, {"steps": COUNT, "rate": RATE, "rounds": WHOLE, "seed": SEED}),
    ]
    return functions


def functions() -> list[Function]:
    return forecasters()
