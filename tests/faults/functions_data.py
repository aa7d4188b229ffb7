"""Valid calls and bad values: data sets and networks."""

import inspect
from typing import Any

import torch
from bad_calls import Function
from bad_values import AMOUNT, COUNT, FLAG, HUGE, MADE, NAME, RATE, SEED, SEVERAL, but

import gfm

DTYPE = but(MADE, "None") | {"a name": "float32", "int": torch.int64, "bool": torch.bool, "complex": torch.complex64}


def data() -> list[Function]:
    functions = [
        Function(
            "data.load",
            gfm.data.load,
            {"name": "moons", "n": 20},
            {"name": NAME, "unknown": {"3": 3}, "n": COUNT | {"10**15": HUGE, "10**400": 10**400}},
        )
    ]
    size = COUNT | {"10**15": HUGE, "10**400": 10**400}
    share = AMOUNT | {"1.5": 1.5}
    common = {"n": size, "targets": NAME, "seed": SEED, "dtype": DTYPE}
    functions += [
        Function(
            "data.digits", gfm.data.digits, {"n": 20}, common | {"classes": size | {"1": 1, "11": 11}, "noise": share}
        ),
        Function("data.moons", gfm.data.moons, {"n": 20}, common | {"noise": AMOUNT}),
        Function(
            "data.waves",
            gfm.data.waves,
            {"n": 20},
            {k: v for k, v in common.items() if k != "targets"} | {"dims": size, "terms": size, "frequency": RATE},
        ),
        Function(
            "data.sorting",
            gfm.data.sorting,
            {"n": 20},
            {"n": size, "length": size, "vocabulary": size | {"1": 1}, "n_test": but(size, "None", "0"), "seed": SEED},
        ),
        Function(
            "data.one_hot",
            gfm.data.one_hot,
            {"indices": torch.tensor([0, 1]), "classes": 2},
            {"indices": MADE | {"7": torch.tensor([7])}, "classes": size, "dtype": DTYPE},
        ),
    ]
    x, y = torch.ones(4, 2), torch.ones(4, 1)
    functions.append(
        Function(
            "Dataset",
            gfm.data.Dataset,
            {"name": "mine", "inputs": x, "targets": y, "outputs": 1},
            {
                "name": {"None": None, "3": 3},
                "inputs": {"a list": [1], "None": None, "one fewer": x[:3]},
                "targets": {"a list": [1], "None": None, "one fewer": y[:3]},
                "outputs": COUNT,
                "test_inputs": {"a list": [1], "alone": x},
                "vocabulary": but(COUNT, "None"),
            },
        )
    )
    good = gfm.data.Dataset("mine", x, y, 1)
    functions.append(
        Function(
            "Dataset.to",
            good.to,
            {"dtype": torch.float64},
            {"dtype": DTYPE, "device": but(NAME, "None") | {"no such": "cuda:77"}},
        )
    )
    return functions


def nets() -> list[Function]:
    size = COUNT | {"10**15": HUGE, "10**400": 10**400}
    shapes = {
        "anything": {"input_shape": (2,), "outputs": 2},
        "images": {"input_shape": (3, 32, 32), "outputs": 2},
        "tokens": {"input_shape": (8,), "outputs": 2, "vocabulary": 4},
    }
    functions = []
    for name, made in gfm.nets.available().items():
        bad: dict[str, Any] = {
            "seed": SEED,
            "dtype": DTYPE,
            "outputs": but(size, "None"),
            "activation": but(NAME, "None"),
        }
        for option in made.keywords():
            default = inspect.signature(made.builder).parameters[option].default
            bad[option] = (
                FLAG
                if isinstance(default, bool)
                else AMOUNT
                if isinstance(default, float)
                else size
                if isinstance(default, int)
                else SEVERAL
            )
        if made.takes == "tokens":
            bad["vocabulary"] = size
        functions.append(
            Function(
                f"nets.build({name})",
                lambda name=name, **given: gfm.nets.build(name, **given),
                {"size": "tiny"} | shapes[made.takes],
                bad
                | {
                    "input_shape": SEVERAL
                    | {"0": (0,), "huge": (HUGE,)}
                    | ({} if made.takes == "anything" else {"four": (1, 2, 3, 4)}),
                    "size": NAME,
                },
            )
        )
    functions.append(
        Function(
            "nets.build",
            gfm.nets.build,
            {"name": "mlp", "input_shape": (2,), "outputs": 1},
            {"name": NAME, "data": but(MADE, "None"), "unknown": {"3": 3}},
        )
    )
    functions.append(
        Function(
            "nets.mlp",
            gfm.nets.mlp,
            {"dims": (2, 3, 1)},
            {
                "dims": SEVERAL | {"one": (3,), "huge": (HUGE, HUGE)},
                "activation": NAME,
                "bias": FLAG,
                "seed": SEED,
                "dtype": DTYPE,
            },
        )
    )
    return functions


def functions() -> list[Function]:
    return [*data(), *nets()]
