"""Valid calls and bad values: problems, central flows, optimizers."""

import math
from functools import cache
from pathlib import Path

import torch
from bad_calls import Function
from bad_values import AMOUNT, COUNT, FLAG, FUNCTION, HUGE, MADE, NAME, RATE, SEED, WHOLE, but, paths, targets, tensors
from functions_optimizers import optimizers
from torch import nn

import gfm
from gfm.central import Minibatch, Run, Settings
from gfm.problem.flat import Flat

#: What Python itself refuses as a dictionary's key; a ``Series`` is a dictionary.
UNHASHABLE = ("a list", "a list of one", "a mapping", "a set", "an array of two", "an array of none", "a large array")
X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(12, 2)
Y = X.square().sum(1, keepdim=True)


def net(dtype: torch.dtype = torch.float64, last: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, last)).to(dtype)


@cache
def problem() -> gfm.Problem:
    return gfm.Problem(net(), X, Y)


def ran() -> Run:
    return gfm.central.run(problem(), gfm.optimizers.GradientDescent(lr=0.1), 3)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return self.inner(x) + torch.randn(len(x), 1, dtype=x.dtype)


def summed(outputs, y):
    return (outputs - y).square().sum()


MODULES = {
    "a class": nn.Linear,
    "no weights": nn.Tanh(),
    "complex weights": net().to(torch.complex128),
    "half": net().half(),
    "on meta": net().to("meta"),
    "two dtypes": nn.Sequential(net(), nn.Linear(1, 1)),
    "other inputs": nn.Linear(5, 1).double(),
    "dropout": nn.Sequential(net(), nn.Dropout()),
    "noise": Noisy(),
    "frozen": net().requires_grad_(False),
    "batch norm": nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1)).double(),
}
LOSSES = {
    "unknown": "absolute",
    "random": lambda o, y: (o - y).square().mean() * torch.rand(()),
    "a list": [],
    "None": None,
    "a number": 3,
    "returns text": lambda o, y: "much",
    "returns None": lambda o, y: None,
    "fails": lambda o, y: 1 / 0,
    "no arguments": lambda: 1.0,
    "NaN": lambda o, y: o.mean() * math.nan,
    "complex": lambda o, y: o.mean() * 1j,
    "detached": lambda o, y: o.detach().mean(),
    "the class": nn.MSELoss,
    "a vector": lambda o, y: o[:3, 0],
}


def problems() -> list[Function]:
    valid = {"module": net(), "inputs": X, "targets": Y}
    w = problem().w0
    functions = [
        Function(
            "Problem",
            gfm.Problem,
            valid,
            {
                "module": but(MADE, "a function") | MODULES,
                "inputs": tensors(X),
                "targets": tensors(Y),
                "loss": LOSSES,
                "batch_size": but(COUNT, "None"),
                "penalty": but(FUNCTION, "None")
                | {
                    "returns text": lambda given: "x",
                    "fails": lambda given: 1 / 0,
                    "a vector": lambda given: torch.ones(3),
                    "NaN": lambda given: math.nan,
                    "no arguments": lambda: 1.0,
                },
                "weight_decay": AMOUNT,
                "output": but(NAME, "None"),
                "loss_weight": but(FUNCTION, "None"),
                "several": {
                    "a sum in pieces": {"loss": summed, "batch_size": 5},
                    "a vector loss in pieces that is a sum": {"loss": summed, "batch_size": 1},
                    "classes for a regression": {"loss": "cross_entropy"},
                    "class 7 of 3": {"module": net(last=3), "loss": "cross_entropy", "targets": torch.full((12,), 7)},
                    "class -5": {"module": net(last=3), "loss": "cross_entropy", "targets": torch.full((12,), -5)},
                },
            },
            {"output: a tuple": "all of what the module returns, as indexing a tensor by it gives"},
        )
    ]
    for name, arguments in {
        "loss": "w",
        "gradient": "w",
        "value_and_gradient": "w",
        "hvp": "wv",
        "outputs": "w",
    }.items():
        if hasattr(gfm.Problem, name):
            method = getattr(problem(), name)
            functions.append(
                Function(
                    f"Problem.{name}",
                    lambda method=method, **given: method(*given.values()),
                    dict.fromkeys(arguments, w),
                    dict.fromkeys(
                        arguments, but(tensors(w), *(f"tensor: {word}" for word in ("NaN", "inf", "one NaN")))
                    ),
                )
            )
    functions.append(
        Function(
            "Problem.value_and_gradient(examples)",
            problem().value_and_gradient,
            {"w": w, "examples": torch.tensor([0, 1])},
            {
                "examples": but(MADE, "None")
                | {
                    "12": torch.tensor([12]),
                    "-13": torch.tensor([-13]),
                    "none": torch.tensor([], dtype=torch.long),
                    "halves": torch.tensor([0.5]),
                }
            },
        )
    )
    functions.append(Function("Flat", Flat, {"module": net()}, {"module": MADE}))
    functions.append(
        Function(
            "Problem.outputs(inputs)",
            problem().outputs,
            {"w": w, "inputs": X},
            {"inputs": {"another width": torch.ones(3, 5), "text": "x", "a list": [1], "a number": 3}},
        )
    )
    return functions


def central() -> list[Function]:
    valid = {"problem": problem(), "optimizer": gfm.optimizers.GradientDescent(lr=0.1), "steps": 2}
    functions = [
        Function(
            "central.run",
            gfm.central.run,
            valid,
            {
                "problem": MADE,
                "optimizer": MADE
                | {"torch's": torch.optim.SGD(net().parameters(), 0.1), "the class": gfm.optimizers.GradientDescent},
                "steps": COUNT | {"10**15": HUGE, "10**400": 10**400},
                "processes": MADE | {"unknown": ["discret"], "twice": ["discrete", "discrete"], "None inside": [None]},
                "substeps": but(COUNT, "None"),
                "settings": but(MADE, "None"),
                "minibatch": but(MADE, "None"),
                "warmup": WHOLE,
                "w0": but(tensors(problem().w0), "None"),
                "seed": but(SEED, "None"),
                "observables": but(MADE, "None", "a mapping")
                | {
                    "no function": {"a": 3},
                    "fails": {"a": lambda w: 1 / 0},
                    "reserved": {"loss": lambda w: w.sum()},
                    "NaN": {"a": lambda w: w.sum() * math.nan},
                    "no text": {3: lambda w: w.sum()},
                    "a slash": {"a/b": lambda w: w},
                    "text": {"a": lambda w: "x"},
                },
                "keep_weights": WHOLE,
                "progress": but(FUNCTION, "True", "False", "None"),
                "checkpoint": but(targets(Path.cwd()), "None") | {"not a run's": Path("kept.npz/text.npz")},
                "checkpoint_every": COUNT,
                "checkpoint_seconds": AMOUNT,
            },
        )
    ]
    functions.append(
        Function(
            "Settings",
            Settings,
            {},
            {
                "substeps": COUNT,
                "adaptive": FLAG,
                "refresh_substeps": FLAG,
                "dense": FLAG,
                "band": but(AMOUNT, "None"),
                "critical_share": RATE,
                "curvature_penalty": FLAG,
                "eigen_every": COUNT,
                "track": COUNT,
                "cap": COUNT,
                "tolerance": but(RATE, "None"),
                "discrete_tolerance": but(RATE, "None"),
            },
        )
    )
    functions.append(
        Function(
            "Minibatch",
            lambda **given: Minibatch(**given).size(12),
            {"batch_size": 3},
            {"batch_size": but(COUNT, "None") | {"more than n": 13}, "order": NAME, "seed": SEED},
        )
    )
    here = Path.cwd()
    run = ran()
    functions += [
        Function("Run.load", Run.load, bad={"path": paths(here)}, valid={"path": saved(run, here)}),
        Function("Run.save", run.save, {"path": here / "run.npz"}, {"path": targets(here)}),
        Function("Run.distance", run.distance, {"a": "discrete", "b": "central"}, {"a": NAME, "b": NAME}),
        Function("Run[]", lambda name: run[name], {"name": "central"}, {"name": NAME}),
        Function("Series[]", lambda name: run["central"][name], {"name": "loss"}, {"name": but(NAME, *UNHASHABLE)}),
    ]
    return functions


def saved(run: Run, folder: Path) -> Path:
    run.save(folder / "run.npz")
    return folder / "run.npz"


def functions() -> list[Function]:
    return [*problems(), *central(), *optimizers()]
