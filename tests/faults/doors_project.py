"""Valid calls and bad values: stored results, what a cell hands to its page, the environment."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from bad_calls import Door
from bad_values import AMOUNT, MADE, NAME, Values, but
from doors_commands import LONG, project
from doors_registers import registers

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


def stores(root: Path) -> list[Door]:
    here = root.parent
    (here / "a-file").touch()
    small = Small()
    return [
        Door(
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
        Door(
            "Store.load",
            lambda key: store.Store(here / "store", ()).load("faults/small", key),
            {"key": store.key_of(small)},
            {"key": NAME},
        ),
    ]


def elements(root: Path) -> list[Door]:
    return [
        Door(
            "Element",
            lambda **given: within(root, lambda: Element(**given)),
            {"name": "toy"},
            {"name": NAME, "profile": NAME},
        ),
        Door(
            "below",
            below,
            {"value": 1.0, "bound": 2.0},
            {"value": but(AMOUNT, "-1", "NumPy's -3"), "bound": but(AMOUNT, "-1", "NumPy's -3")},
        ),
    ]


def within(root: Path, call: Any) -> Any:
    with contextlib.chdir(root):
        return call()


def environments(root: Path) -> list[Door]:
    here = root.parent
    (here / "a-file").touch()
    values = {
        "a file": str(here / "a-file"),
        "in a file": str(here / "a-file" / "x"),
        "a long name": LONG,
        "a tilde": "~no-such-user/x",
    }

    return [
        Door(
            "GFM_STORE",
            lambda value: within(
                root, lambda: _with({"GFM_STORE": value}, lambda: store.obtain(Small(5), progress=print))
            ),
            {"value": str(here / "store")},
            {"value": values | {"relative": "x", "dots": "../x", "a tilde": "~no-such-user/x"}},
        ),
        Door(
            "GFM_BUILD",
            lambda value: within(root, lambda: _with({"GFM_BUILD": value}, lambda: gfm.book.paths.build_folder(root))),
            {"value": str(here / "build")},
            {"value": values | {"relative": "x", "dots": "../x"}},
        ),
        Door(
            "GFM_DATA",
            lambda value: _with({"GFM_DATA": value}, lambda: named_folder("GFM_DATA")),
            {"value": str(here)},
            {"value": values | {"relative": "x", "dots": "../x"}},
        ),
        Door(
            "GFM_DEVICE",
            lambda value: _with({"GFM_DEVICE": value}, lambda: gfm_device()),
            {"value": "cpu"},
            {"value": _words(["gpu", "cuda:99", "meta", "cpu:7", LONG, "3", "ünï", "cuda:-1", "mps:3"])},
        ),
    ]


def gfm_device() -> Any:
    from gfm.device import chosen

    return chosen()


def _with(environment: dict[str, str], call: Any) -> Any:
    with mock.patch.dict(os.environ, environment):
        return call()


def doors() -> list[Door]:
    root = project(Path.cwd() / "project")
    return [*registers(root), *stores(root), *elements(root), *environments(root)]
