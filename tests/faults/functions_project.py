"""Valid calls and bad values: stored results, what a cell hands to its page, the environment."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from bad_calls import Function
from bad_values import AMOUNT, MADE, NAME, Values, but
from functions_commands import LONG, project
from functions_registers import registers

import gfm
from gfm import store
from gfm.book import Element, below
from gfm.checks import named_folder


def _words(values: list[str]) -> Values:
    return {f"{value[:30]!r}": value for value in values}


@dataclass(frozen=True)
class Small(store.Experiment):
    name: ClassVar[str] = "faults/small"
    value: Any = 3

    def compute(self, context):
        return store.Result({"a": np.ones(3)})


class Nameless(store.Experiment):
    def compute(self, context):
        return store.Result({})


def returning(value: Any) -> store.Experiment:
    class Odd(Small):
        name = "faults/odd"

        def compute(self, context):
            return value

    return Odd(repr(value)[:50])


def stores(root: Path) -> list[Function]:
    here = root.parent
    (here / "a-file").touch()
    small = Small()
    return [
        Function(
            "obtain",
            lambda **given: store.obtain(**given, progress=print),
            {"experiment": small, "store": here / "store"},
            {
                "experiment": MADE
                | {
                    "the class": Small,
                    "nameless": Nameless(),
                    **{
                        f"a field that is {word}": Small(value)
                        for word, value in MADE.items()
                        if word not in ("None", "3", "True", "False")
                        and not isinstance(value, (str, list, tuple, dict, float, np.datetime64))
                    },
                },
                "store": {
                    "3": 3,
                    "a NUL": "a\0b",
                    "long": LONG,
                    "a file": here / "a-file",
                    "in a file": here / "a-file" / "x",
                    "NaN": float("nan"),
                    "empty": "",
                },
                "several": {"not stored": {"experiment": Small(77), "only_stored": True}},
            },
        ),
        Function(
            "Store.load",
            lambda key: store.Store(here / "store", ()).load("faults/small", key),
            {"key": store.key_of(small)},
            {"key": NAME},
        ),
    ]


def elements(root: Path) -> list[Function]:
    return [
        Function(
            "Element",
            lambda **given: within(root, lambda: Element(**given)),
            {"name": "toy"},
            {"name": NAME, "profile": NAME},
        ),
        Function(
            "below",
            below,
            {"value": 1.0, "bound": 2.0},
            {"value": but(AMOUNT, "-1", "NumPy's -3"), "bound": but(AMOUNT, "-1", "NumPy's -3")},
        ),
    ]


def within(root: Path, call: Any) -> Any:
    with contextlib.chdir(root):
        return call()


def environments(root: Path) -> list[Function]:
    here = root.parent
    (here / "a-file").touch()
    values = {
        "a file": str(here / "a-file"),
        "in a file": str(here / "a-file" / "x"),
        "a long name": LONG,
        "a tilde": "~no-such-user/x",
    }

    return [
        Function(
            "GFM_STORE",
            lambda value: within(
                root, lambda: _with({"GFM_STORE": value}, lambda: store.obtain(Small(5), progress=print))
            ),
            {"value": str(here / "store")},
            {"value": values | {"relative": "x", "dots": "../x", "a tilde": "~no-such-user/x"}},
        ),
        Function(
            "GFM_BUILD",
            lambda value: within(root, lambda: _with({"GFM_BUILD": value}, lambda: gfm.book.paths.build_folder(root))),
            {"value": str(here / "build")},
            {"value": values | {"relative": "x", "dots": "../x"}},
        ),
        Function(
            "GFM_DATA",
            lambda value: _with({"GFM_DATA": value}, lambda: named_folder("GFM_DATA")),
            {"value": str(here)},
            {"value": values | {"relative": "x", "dots": "../x"}},
        ),
        Function(
            "GFM_DEVICE",
            lambda value: _with({"GFM_DEVICE": value}, lambda: gfm_device()),
            {"value": "cpu"},
            {"value": _words(["gpu", "cuda:99", "meta", "cpu:7", LONG, "3", "ünï", "cuda:-1", "mps:3"])},
        ),
    ]


def gfm_device() -> Any:
    from gfm.device import device_for

    return device_for()


def _with(environment: dict[str, str], call: Any) -> Any:
    with mock.patch.dict(os.environ, environment):
        return call()


def functions() -> list[Function]:
    root = project(Path.cwd() / "project")
    return [*registers(root), *stores(root), *elements(root), *environments(root)]
