"""Valid calls and bad values: trajectories, recording, checkpoints, layouts."""

import math
from itertools import count
from pathlib import Path

import numpy as np
import torch
from bad_calls import Function
from bad_values import AMOUNT, COUNT, FLAG, FUNCTION, HUGE, MADE, NAME, RATE, SEED, SEVERAL, WHOLE, but, paths, targets
from torch import nn

from gfm import Trajectories
from gfm.matching import windows
from gfm.trajectories import Layout, edges_of, read_checkpoints, record

RNG = np.random.default_rng(0)
W = np.cumsum(RNG.normal(size=(6, 13, 4)), axis=1) * 0.1
DATA = Trajectories(W)
PREFIX = DATA.prefix(4)
NUMBERS = count()
ARRAYS = {
    "2-d": W[0],
    "4-d": W[None],
    "none": W[:0],
    "one state": W[:, :1],
    "no weights": W[:, :, :0],
    "NaN": W * math.nan,
    "one inf": np.where(W == W.max(), math.inf, W),
    "whole numbers": W.astype(int),
    "complex": W + 0j,
    "truths": W > 0,
    "text": np.full((2, 3, 4), "1"),
    "objects": np.full((2, 3, 4), None),
    "ragged": [[[1.0], [2.0, 3.0]]],
    "dates": np.zeros((2, 3, 4), "datetime64[s]"),
    "a sparse tensor": torch.from_numpy(W).to_sparse(),
    "a tensor on meta": torch.from_numpy(W).to("meta"),
    "a generator": (x for x in W),
    "structured": np.zeros((2, 3, 4), [("a", float)]),
}
WEIGHTS = but(MADE, "a large array") | ARRAYS
STEPS = but(SEVERAL, "None") | {
    "too few": [0, 1],
    "falling": range(13, 0, -1),
    "equal": [0] * 13,
    "beyond": [*range(12), 2**63],
    "unsigned falling": np.arange(13, 0, -1, dtype=np.uint64),
}


OWN = "an error in the caller's own function is the caller's to see"


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 1)


def trajectories() -> list[Function]:
    here = Path.cwd()
    data = Trajectories(W, layout=Layout.of(net()))
    file, folder = data.save(here / "runs.npz"), here / "checkpoints"
    folder.mkdir(exist_ok=True)
    for step in (1, 2, 3):
        torch.save({k: v + step for k, v in net().state_dict().items()}, folder / f"step{step}.pt")
    empty, odd = here / "no-checkpoints", here / "odd"
    empty.mkdir(exist_ok=True)
    odd.mkdir(exist_ok=True)
    for name, value in {
        "a-1": {"w": torch.ones(2, dtype=torch.long)},
        "a-2": {"w": torch.ones(2, dtype=torch.long)},
        "b-1": {"w": torch.ones(2) * 1j},
        "b-2": {"w": torch.ones(2) * 2j},
        "c-1": {"w": torch.ones(2).to_sparse()},
        "c-2": {"w": torch.ones(2).to_sparse()},
        "d-1": {"w": torch.ones(2, device="meta")},
        "d-2": {"w": torch.ones(2, device="meta")},
        "e-1": {"w": torch.ones(2)},
        "e-2": {"w": torch.ones(3)},
        "f-1": [1],
        "f-2": "x",
        "g-1": {"w": torch.ones(2) * math.nan},
        "g-2": {"w": torch.ones(2)},
        "h-1": {},
        "h-2": {},
    }.items():
        torch.save(value, odd / f"{name}.pt")
    functions = [
        Function(
            "Trajectories",
            Trajectories,
            {"weights": W},
            {
                "weights": WEIGHTS,
                "steps": STEPS,
                "groups": but(MADE, "None", "a large array") | {"too many": ["a"] * 9},
                "meta": but(MADE, "None", "a mapping"),
                "layout": but(MADE, "None"),
                "states": but(MADE, "None", "a mapping")
                | {f"momentum {k}": {"momentum": v} for k, v in ARRAYS.items()},
                "buffers": but(MADE, "None", "a mapping")
                | {
                    "other runs": {"b": W[:2]},
                    "text": {"b": np.full((6, 13), "x")},
                    "None": {"b": None},
                    "no name": {3: W},
                },
            },
        ),
        Function(
            "Trajectories[]",
            lambda runs: data[runs],
            {"runs": [0, 1]},
            {"runs": but(MADE, "a list of one", "3") | {"9": 9, "-7": -7, "halves": [0.5], "none": [], "[9]": [9]}},
        ),
        Function(
            "Trajectories.split", lambda size: data.split(size), {"size": 2}, {"size": COUNT | {"7": 7, "huge": HUGE}}
        ),
        Function("Trajectories.prefix", data.prefix, {"n": 2}, {"n": COUNT | {"99": 99}}),
        Function("Trajectories.every", data.every, {"stride": 2}, {"stride": COUNT | {"99": 99}}),
        Function("Trajectories.resampled", data.resampled, {"stride": 2}, {"stride": COUNT | {"5": 5, "huge": HUGE}}),
        Function(
            "Trajectories.select_weights", data.select_weights, {"numbers": [0]}, {"numbers": SEVERAL | {"9": [9]}}
        ),
        Function(
            "Trajectories.continued", data.continued, {"forecast": W[:, 1:]}, {"forecast": but(WEIGHTS, "one state")}
        ),
        Function(
            "Trajectories.concat",
            Trajectories.concat,
            {"parts": [data, data]},
            {"parts": MADE | {"mixed": [data, 3], "others": [data, Trajectories(W[:, :5])]}},
        ),
        Function("Trajectories.state_dict", data.state_dict, {}, {"run": WHOLE | {"9": 9}, "step": but(WHOLE, "None")}),
        Function(
            "Trajectories.load_into",
            data.load_into,
            {"module": net()},
            {"module": MADE | {"other": nn.Linear(5, 1)}, "run": WHOLE, "step": but(WHOLE, "None")},
        ),
        Function("Trajectories.save", data.save, {"path": here / "runs.npz"}, {"path": targets(here)}),
        Function("Trajectories.load", Trajectories.load, {"path": file}, {"path": paths(here), "memory_map": FLAG}),
        Function(
            "Trajectories.save_checkpoint",
            lambda like, path=OWN: data.save_checkpoint(_fresh(here) if path is OWN else path, like),
            {"like": folder / "step1.pt"},
            {
                "path": targets(here, suffix=".pt") | {"one that is there": folder / "step1.pt"},
                "like": paths(here, suffix=".pt"),
            },
        ),
        Function(
            "Layout",
            Layout,
            {"names": ("a",), "shapes": ((2,),)},
            {
                "names": MADE,
                "shapes": MADE | {"negative": ((-1,),), "text": (("a",),), "half": ((2.5,),)},
                "tied": but(MADE, "a mapping"),
            },
        ),
        Function("Layout.of", Layout.of, {"module": net()}, {"module": MADE}),
        Function("edges_of", edges_of, {"module": net()}, {"module": MADE}),
        Function(
            "read_checkpoints",
            read_checkpoints,
            {"folder": folder},
            {
                "folder": but(paths(here, suffix=".pt"), "a folder") | {"empty": empty, "odd": odd},
                "pattern": NAME,
                "step": but(NAME, "None") | {"no group": r"\d+", "broken": "(", "two": r"(\d)(\d)"},
                "key": but(NAME, "None"),
                "module": but(MADE, "None") | {"other": nn.Linear(5, 1)},
                "order": but(NAME, "None"),
            },
        ),
    ]
    for letter in "abcdefgh":
        functions.append(
            Function(
                f"read_checkpoints({letter})",
                lambda folder, pattern="*": read_checkpoints(folder, pattern),
                {"folder": folder},
                {"several": {"odd": {"folder": odd, "pattern": f"{letter}-*.pt"}}},
            )
        )
    x, y = torch.ones(6, 3), torch.ones(6, 1)
    loss = nn.functional.mse_loss
    functions.append(
        Function(
            "record",
            record,
            {"build": net, "inputs": x, "targets": y, "loss": loss, "runs": 2, "steps": 2},
            {
                "build": but(FUNCTION)
                | {
                    "returns 3": lambda: 3,
                    "fails": lambda: 1 / 0,
                    "takes": lambda a: net(),
                    "a module": net(),
                    "frozen": lambda: net().requires_grad_(False),
                },
                "inputs": MADE
                | {
                    "one fewer": x[:5],
                    "none": x[:0],
                    "NaN": x * math.nan,
                    "whole": x.long(),
                    "another width": torch.ones(6, 5),
                    "double": x.double(),
                },
                "targets": MADE | {"one fewer": y[:5], "NaN": y * math.nan},
                "loss": but(FUNCTION)
                | {
                    "text": lambda a, b: "x",
                    "fails": lambda a, b: 1 / 0,
                    "rows": lambda a, b: (a - b)[:, 0],
                    "one": lambda a: a.mean(),
                    "name": "mse",
                },
                "optimizer": NAME,
                "lr": RATE,
                "runs": COUNT | {"huge": HUGE},
                "steps": COUNT | {"huge": HUGE},
                "batch": but(COUNT, "None"),
                "every": but(SEVERAL, "3", "True") | {"0": 0, "-1": -1, "3 > 2": [3], "2.5": 2.5},
                "states": FLAG,
                "seed": SEED,
                "progress": but(FUNCTION, "None"),
                "checkpoint": but(targets(here), "None") | {"not its own": here / "kept.npz" / "text.npz"},
                "checkpoint_every": COUNT,
                "schedule": but(FUNCTION, "None") | {"returns 3": lambda o: 3},
                "momentum": but(AMOUNT, "None"),
                "unknown": {"3": 3},
                "per_run": but(FLAG, "None") | {"shared data": True},
                "several": {
                    "200 for 200": {"inputs": torch.ones(200, 3), "targets": torch.ones(200, 1), "runs": 200},
                    "a loader per run": {
                        "inputs": torch.utils.data.DataLoader([(x, y)]),
                        "targets": None,
                        "per_run": True,
                    },
                },
            },
            dict.fromkeys(("build: fails", "build: takes", "loss: fails", "loss: one"), OWN),
        )
    )
    functions.append(
        Function(
            "windows",
            windows,
            {"runs": DATA, "states": 4},
            {"runs": MADE, "states": COUNT | {"1": 1, "99": 99}, "stride": COUNT},
        )
    )
    return functions


def _fresh(folder: Path) -> Path:
    """A new path at every call."""
    return folder / "fresh" / f"new-{next(NUMBERS)}.pt"
