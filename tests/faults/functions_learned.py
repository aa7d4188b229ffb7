"""Valid calls and bad values: the nowcaster, files of weights."""

import math
from pathlib import Path

import torch
from bad_calls import Function
from bad_values import COUNT, FLAG, FUNCTION, HUGE, MADE, NAME, SEVERAL, but, paths, targets
from functions_trajectories import DATA, PREFIX, net, trajectories

import gfm
from gfm.forecasters.files import forecast_files


def caster(**given):
    model = net()
    given = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1), **given}
    return gfm.Nowcaster(given.pop("optimizer"), given.pop("model"), **given)


def looking(loss):
    model = net()
    return gfm.Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, seen=1, every=1).step(loss)


def nowcaster() -> list[Function]:
    good = caster(seen=2).state_dict()
    return [
        Function(
            "Nowcaster",
            caster,
            {},
            {
                "optimizer": MADE,
                "model": MADE,
                "rule": but(MADE, "a function", "None", "a class") | {"a class": int},
                "seen": but(COUNT, "None") | {"huge": HUGE},
                "every": COUNT,
                "ahead": but(SEVERAL, "None"),
                "period": but(COUNT, "None"),
                "gate": FLAG,
            },
        ),
        Function(
            "Nowcaster.step",
            looking,
            {"loss": lambda: 1.0},
            {
                "loss": but(FUNCTION)
                | {"text": lambda: "x", "None": lambda: None, "a vector": lambda: torch.ones(3), "complex": lambda: 1j}
            },
        ),
        Function(
            "Nowcaster.load_state_dict",
            lambda state: caster(seen=2).load_state_dict(state),
            {"state": good},
            {
                "state": MADE
                | {f"without {name}": {k: v for k, v in good.items() if k != name} for name in good}
                | {f"{name} wrong": good | {name: "x"} for name in good}
                | {f"{name} -1": good | {name: -1} for name in good}
                | {f"{name} NaN": good | {name: math.nan} for name in good}
            },
        ),
        Function("nowcasting.merged", gfm.nowcasting.merged, {}, {"along": but(SEVERAL, "halves", "a negative one")}),
    ]


def files() -> list[Function]:
    here = Path.cwd()
    DATA.save(here / "long.npz")
    PREFIX.save(here / "short.npz")
    return [
        Function(
            "forecast_files",
            forecast_files,
            {"observed": here / "short.npz", "horizon": 3, "method": "linear-ends"},
            {
                "observed": paths(here),
                "horizon": COUNT | {"huge": HUGE},
                "method": but(NAME, "None"),
                "train": but(paths(here), "None"),
                "resample": but(COUNT, "None") | {"9": 9},
                "model": but(paths(here), "None"),
                "max_weights": but(COUNT, "None"),
                "device": but(NAME, "None"),
                "save_model": but(targets(here), "None"),
                "pattern": {"*": "*"},
                "unknown": {"3": 3},
            },
        )
    ]


def functions() -> list[Function]:
    return [*trajectories(), *nowcaster(), *files()]
