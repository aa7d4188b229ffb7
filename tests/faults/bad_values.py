"""Bad values by kind: what a caller may give for a number, a flag, a name, a tensor, a path, ... and should not."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Values = dict[str, Any]
HUGE = 10**15


class Odd:
    """An object of no use anywhere, whose representation is as long as a careless message would make it."""

    def __repr__(self) -> str:
        return "Odd(\n" + "x" * 5000 + ")"


NOTHING: Values = {"None": None}
TRUTHS: Values = {"True": True, "False": False}
THINGS: Values = {
    "a list": [],
    "a list of one": [3],
    "a tuple": (),
    "a mapping": {},
    "a set": {3},
    "an object": Odd(),
    "bytes": b"3",
    "a function": lambda *given: 3,
    "a class": int,
    "a complex": 1 + 2j,
    "NotImplemented": NotImplemented,
    "a NaT": np.datetime64("NaT"),
    "an array of two": np.ones(2),
    "an array of none": np.ones(0),
    "a large array": np.zeros((300, 300)),
    "a tensor of two": torch.ones(2),
    "a complex tensor": torch.tensor(1j),
}
WORDS: Values = {
    '"3"': "3",
    '"0.1"': "0.1",
    "empty text": "",
    "unicode": "schön ∂ω",
    "a NUL": "a\0b",
    "a long text": "a" * 5000,
    "two lines": "one\ntwo",
    "a lone surrogate": "\ud800",
}
NAN: Values = {"NaN": math.nan, "NumPy's NaN": np.float64("nan"), "inf": math.inf, "-inf": -math.inf}
NEGATIVE: Values = {"-1": -1, "-10**400": -(10**400), "NumPy's -3": np.int64(-3)}
BROKEN: Values = {"2.5": 2.5, "3.0": 3.0, "1e15": 1e15, "NumPy's 3.0": np.float32(3)}


def but(values: Values, *names: str) -> Values:
    """The values without those of these names, each of which must be there."""
    assert set(names) <= set(values), set(names) - set(values)
    return {name: value for name, value in values.items() if name not in names}


#: A whole number of at least 0, and of at least 1.
WHOLE = THINGS | WORDS | TRUTHS | NAN | NEGATIVE | BROKEN | NOTHING
COUNT = WHOLE | {"0": 0}
SEED = WHOLE | {"2**64": 2**64, "10**400": 10**400}
#: A finite number of at least 0, and above 0.
AMOUNT = THINGS | WORDS | TRUTHS | NAN | NEGATIVE | NOTHING
RATE = AMOUNT | {"0": 0, "0.0": 0.0}
FLAG = THINGS | WORDS | NAN | NOTHING | {"1": 1, "0": 0, "-1": -1}
NAME = THINGS | WORDS | NAN | TRUTHS | NOTHING | {"3": 3}
FUNCTION = but(THINGS, "a function", "a class") | WORDS | NAN | TRUTHS | NOTHING | {"3": 3}
#: Something made by one of the package's own classes.
MADE = THINGS | WORDS | NAN | TRUTHS | NOTHING | {"3": 3}
#: Several whole numbers.
SEVERAL = (
    WORDS
    | NAN
    | TRUTHS
    | NOTHING
    | {
        "3": 3,
        "an object": Odd(),
        "bytes": b"3",
        "a function": lambda *given: 3,
        "texts": ["a"],
        "halves": (2.5,),
        "truths": [True],
        "a NaN inside": [math.nan],
        "complex ones": [1j],
        "a negative one": (-1,),
        "nested": [[1], [2]],
        "a None inside": (None,),
        "a large array": np.zeros((300, 300)),
    }
)


def tensors(good: torch.Tensor, integers: bool = False) -> Values:
    """Bad values for an argument of which ``good`` is a valid one; ``integers`` are left out where they are valid."""
    made: dict[str, Callable[[], Any]] = {
        "a list": good.tolist,
        "an array": good.numpy,
        "flat": lambda: good.flatten()[:-1],
        "0-d": lambda: good.sum(),
        "one more axis": lambda: good[None, None],
        "empty": lambda: good[:0],
        "one row more": lambda: torch.cat([good, good[:1]]),
        "complex": lambda: good.to(torch.complex128),
        "bool": lambda: good > 0,
        "half": lambda: good.half(),
        "sparse": lambda: good.to_sparse(),
        "meta": lambda: good.to("meta"),
        "int": lambda: good.long(),
        "quantized": lambda: torch.quantize_per_tensor(good.float(), 0.1, 0, torch.qint8),
    }
    if good.is_floating_point():
        made |= {
            word: lambda value=value: torch.full_like(good, value)
            for word, value in (("NaN", math.nan), ("inf", math.inf))
        }
        made["one NaN"] = lambda: torch.cat([good[:-1], good[-1:] * math.nan])
    out = {f"tensor: {name}": make() for name, make in made.items() if not (integers and name == "int")}
    return (
        out
        | WORDS
        | NAN
        | TRUTHS
        | NOTHING
        | {
            "3": 3,
            "a mapping": {},
            "an object": Odd(),
            "an array of text": np.array(["a"]),
            "an array of objects": np.array([None]),
        }
    )


def paths(folder: Path, *, suffix: str = ".npz") -> Values:
    """Bad values for a file to be read: none that is there is of the right kind."""
    kept = folder / f"kept{suffix}"
    if not kept.exists():
        kept.mkdir(parents=True)
        np.savez(kept / "other.npz", a=np.ones(3))
        np.savez(kept / "objects.npz", a=np.array([{}], dtype=object), allow_pickle=True)
        np.save(kept / "array.npy", np.ones(3))
        for name, content in (
            ("empty", b""),
            ("text", b"hello\n"),
            ("zeros", bytes(5000)),
            ("zip", b"PK\3\4" + b"x" * 99),
            ("cut", (kept / "other.npz").read_bytes()[:150]),
            ("pickle", b"\x80\x04N."),
            ("ünï", b"{}"),
        ):
            (kept / f"{name}{suffix}").write_bytes(content)
        (kept / f"folder{suffix}").mkdir()
        (kept / f"loop{suffix}").symlink_to(kept / f"loop{suffix}")
    files = {f"the file {path.name}": path for path in sorted(kept.iterdir())}
    return (
        files
        | not_paths()
        | {
            "a missing file": folder / f"nowhere{suffix}",
            "a missing folder": folder / "no" / f"x{suffix}",
            "a file as a folder": kept / f"text{suffix}" / f"x{suffix}",
            "a device": "/dev/null",
            "relative": "../../../etc",
        }
    )


def targets(folder: Path, *, suffix: str = ".npz") -> Values:
    """Bad values for a file to be written."""
    paths(folder)
    return not_paths() | {
        "a folder": folder / f"kept{suffix}" / f"folder{suffix}",
        "the system": f"/proc/nowhere/x{suffix}",
        "in a file": folder / f"kept{suffix}" / f"text{suffix}" / f"x{suffix}",
    }


def not_paths() -> Values:
    return {
        "a number": 3,
        "None": None,
        "empty text": "",
        "a NUL": "a\0b",
        "a long name": "a" * 5000 + ".npz",
        "a list": [],
        "NaN": math.nan,
        "True": True,
        "an object": Odd(),
        "bytes": b"x\0y",
        "a folder": ".",
    }
