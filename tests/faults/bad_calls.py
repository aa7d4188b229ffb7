"""Bad calls, made from good ones: each argument of a call that works is replaced by values that it cannot have."""

from __future__ import annotations

import math
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gfm.errors import GfmError

NAN, INF = float("nan"), math.inf
THINGS = [object(), {"a": 1}, 1j, b"3"]  # what no argument is

#: Kind of an argument -> values of other kinds, or out of every range.
BAD: Mapping[str, list[Any]] = {
    "count": ["3", 2.5, NAN, INF, -1, True, [3], *THINGS],
    "positive count": ["3", 2.5, NAN, INF, -1, 0, True, [3], *THINGS],
    "number": ["0.1", NAN, INF, -INF, True, [0.1], *THINGS],
    "positive": ["0.1", NAN, INF, -0.1, 0.0, True, [0.1], *THINGS],
    "share": ["0.1", NAN, INF, -0.1, 1.5, True, [0.1], *THINGS],
    "flag": [1, 0.0, "yes", "", [True], *THINGS],
    "name": ["nothing of the kind", "", "ü", "../up", 3, NAN, ["SGD"], *THINGS],
    "path": ["", "a\0b", 3, NAN, ["a"], *THINGS],
    "file": ["", "a\0b", 3, NAN, ["a"], "no/such/file", "/", *THINGS],
    "seed": ["3", 2.5, NAN, -1, 2**80, True, *THINGS],
    "counts": ["33", [2.5], ["3"], [-1], [0], 3.5, [NAN], *THINGS],
    "array": [
        "abc",
        None,
        3,
        [],
        [[]],
        np.zeros(0),
        np.full((2, 3, 4), NAN),
        np.full((2, 3, 4), INF),
        np.zeros((2, 3, 4), complex),
        np.array([["a"]]),
        np.zeros((1, 1, 1, 1, 1)),
        *THINGS,
    ],
    "tensor": [
        "abc",
        None,
        3,
        [1.0],
        torch.zeros(0),
        torch.full((4, 2), NAN),
        torch.full((4, 2), INF),
        torch.zeros(4, 2, dtype=torch.cfloat),
        torch.zeros(4, 2, device="meta"),
        torch.zeros(4, 2).to_sparse(),
        *THINGS,
    ],
    "dtype": ["float32", "float8", 32, torch.int64, torch.cfloat, float, *THINGS],
    "object": ["abc", 3, NAN, [], *THINGS],
}


@dataclass
class Door:
    """A public call that works, and the kind of each of its arguments.

    Attributes:
        name: of the door.
        call: takes the arguments.
        good: name -> value, with which the call works.
        kinds: name -> kind, of those that are replaced.
        allowed: (name, value as written by ``repr``) that is good after all.
    """

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    kinds: dict[str, str]
    allowed: set[tuple[str, str]] = field(default_factory=set)

    def bad(self) -> Iterator[tuple[str, Any]]:
        for name, kind in self.kinds.items():
            for value in BAD[kind]:
                if (name, repr(value)) not in self.allowed:
                    yield name, value


def judge(door: Door, name: str, value: Any) -> str:
    """How the door answers a bad value: "refused" with one sentence of the package, or what is wrong."""
    opened = _opened()
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        door.call(**{**door.good, name: value})
    except GfmError as error:
        words = str(error)
        answer = "refused" if 10 < len(words) < 500 and "\n" not in words.strip() else f"no sentence: {words[:200]!r}"
    except Exception as error:  # noqa: BLE001 - whatever comes through is what is looked for
        answer = f"raw {type(error).__name__}: {str(error)[:150]}"
    else:
        answer = "accepted"
    if opened - _opened():  # a number was taken for a file that is open, and closed
        return f"raw: a file of the process is closed; {answer}"
    if time.process_time() - begin > 2.0:
        return f"slow: {answer}"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > 200_000:
        return f"large: {answer}"
    return answer


def _opened() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


def table(answers: Mapping[str, list[str]]) -> str:
    """Door -> answers, as a table of counts."""
    kinds = ["refused", "raw", "accepted", "no sentence", "slow", "large"]
    rows = [f"{'door':<34}{'tried':>7}" + "".join(f"{k:>13}" for k in kinds)]
    total: Counter[str] = Counter()
    for door, given in answers.items():
        count = Counter(next(k for k in kinds if a.startswith(k)) for a in given)
        total += count
        rows.append(f"{door:<34}{len(given):>7}" + "".join(f"{count[k]:>13}" for k in kinds))
    rows.append(f"{'all':<34}{total.total():>7}" + "".join(f"{total[k]:>13}" for k in kinds))
    return "\n".join(rows)
