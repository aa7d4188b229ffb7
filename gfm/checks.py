"""Checks of single arguments, of Python or NumPy: a number, a whole number, a flag, a path, one of several."""

import errno
import inspect
import math
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gfm.errors import InputError, UnknownNameError

__all__ = [
    "MOST", "MOST_SEED", "amount", "annotated", "checked", "counts", "enough_memory", "flag", "floating", "function",
    "instance", "known", "named_folder", "number", "one_of", "place", "whole", "writable",
]

MOST_SEED = 2**64 - 1
"""The largest seed that torch's generators take."""
MOST = 10**7
"""The largest number of anything counted (steps, examples, ...): more would only fill the memory."""
T = TypeVar("T")


def number(name: str, value: object, holds: Callable[[float], bool], words: str) -> float:
    """``value`` as a float if it is a number for which ``holds`` is true; ``words`` describe the condition.

    A whole number too large for a float counts as infinite.

    Raises:
        InputError: The value is not a number, or ``holds`` is false.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not holds(_float(value)):
        raise InputError(f"{name} must be {words}, but it is {_shown(value)}.")
    return _float(value)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # a whole number of more than 4300 digits, an object that cannot say what it is
        return f"a {type(value).__name__} that cannot be printed"


def amount(name: str, value: object) -> float:
    """``value`` as a float if it is a finite number of at least 0.

    Raises:
        InputError: The value is no number, negative, infinite or NaN.
    """
    return number(name, value, lambda x: 0 <= x < math.inf, "a number of at least 0")


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(name: str, value: object, least: int, most: float = math.inf) -> int:
    """``value`` as an int if it is a whole number of at least ``least`` and at most ``most``.

    Raises:
        InputError: The value is not a whole number, or out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or not least <= int(value) <= most:
        to = f" and at most {most}" if most < math.inf else ""
        raise InputError(f"{name} must be a whole number of at least {least}{to}, but it is {_shown(value)}.")
    return int(value)


def counts(name: str, value: Any, least: int = 1, most: float = MOST) -> tuple[int, ...]:
    """``value`` as a tuple if it is a sequence of whole numbers of at least ``least``.

    Raises:
        InputError: The value is no sequence, or one of its items is no such number.
    """
    if not isinstance(value, (Sequence, np.ndarray)) or isinstance(value, (str, bytes)):
        raise InputError(f"{name} must be whole numbers, as in (3, 4), but it is {_shown(value)}.")
    return tuple(whole(f"each of {name}", one, least, most) for one in value)


def instance(name: str, value: object, kind: type[T] | tuple[type[T], ...], words: str) -> T:
    """``value`` if it is of a kind, which ``words`` describe.

    Raises:
        InputError: The value is of another kind.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {words}, but it is {_shown(value)}.")
    return value


def function(name: str, value: T, words: str = "a function") -> T:
    """``value`` if it can be called.

    Raises:
        InputError: The value cannot be called.
    """
    if not callable(value):
        raise InputError(f"{name} must be {words}, but it is {_shown(value)}.")
    return value


def floating(name: str, value: Any) -> Any:
    """``value`` if it is a real floating dtype of torch.

    Raises:
        InputError: The value is anything else.
    """
    import torch  # the command line uses this module, and loads torch only where it computes

    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise InputError(f"{name} must be a floating dtype such as torch.float64, but it is {_shown(value)}.")
    return value


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Context in which a lack of memory is reported as sizes that are too large.

    Raises:
        InputError: NumPy or torch could not get the memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:  # ValueError: beyond NumPy's largest array
        if not isinstance(error, MemoryError) and not re.search("allocate|overflow|too big|too large", str(error)):
            raise
        raise InputError(f"{what} is too large for the memory of this machine: choose smaller sizes.") from error


def checked(build: Callable[..., T]) -> Callable[..., T]:
    """``build`` with its arguments checked against their annotations first; see :func:`annotated`."""
    signature = inspect.signature(build)

    @wraps(build)
    def held(*arguments: Any, **options: Any) -> T:
        annotated(signature, signature.bind(*arguments, **options).arguments)
        with enough_memory(build.__name__):
            return build(*arguments, **options)

    return held


def annotated(signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Check arguments against the annotations of a function whose numbers are sizes and amounts.

    An ``int`` must be a whole number from 1 to ``MOST`` (``seed`` and ``n_test`` may be 0), a ``float`` a finite number
    of at least 0, a ``Sequence[int]`` or tuple of int several sizes. None is accepted where the annotation has it.

    Raises:
        InputError: An argument is of another kind, or out of range.
    """
    for name, value in given.items():
        kind = signature.parameters[name].annotation if name in signature.parameters else ""
        kind = kind if isinstance(kind, str) else inspect.formatannotation(kind).removeprefix("collections.abc.")
        if kind.endswith("| None") and value is None:
            continue
        match kind.removesuffix(" | None"):
            case "int" if name == "seed":
                whole(name, value, 0, MOST_SEED)
            case "int":
                whole(name, value, int(name != "n_test"), MOST)
            case "float":
                amount(name, value)
            case "bool":
                flag(name, value)
            case "str":
                instance(name, value, str, "a name")
            case "torch.dtype":
                floating(name, value)
            case "Sequence[int]" | "tuple[int, ...]":
                counts(name, value)
            case "tuple[int, int, int]":
                if len(counts(name, value)) != 3:
                    raise InputError(f"{name} must be three whole numbers, but it is {_shown(value)}.")


def flag(name: str, value: object) -> bool:
    """``value`` as a bool if it is True or False.

    Raises:
        InputError: The value is anything else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, but it is {_shown(value)}.")
    return bool(value)


def place(name: str, value: object) -> Path:
    """``value`` as a path if it is one, as a string or ``Path``, and not empty.

    Raises:
        InputError: The value is anything else.
    """
    if isinstance(value, (str, PathLike)) and str(value):
        try:
            os.lstat(value)
            return Path(value)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                return Path(value)
        except ValueError:  # a null character, or text that cannot be encoded
            pass
    raise InputError(f"{name} must be the path of a file or folder, but it is {_shown(value)}.")


def named_folder(variable: str) -> Path | None:
    """The folder that an environment variable names, None if it is not set.

    Raises:
        InputError: It is no absolute path, or a file. (Notebooks run in folders of their own, so that a relative path
            would name another place in each.)
    """
    text = os.environ.get(variable)
    if not text:
        return None
    place(variable, text)
    folder = Path(os.path.expanduser(text))
    if not folder.is_absolute():
        raise InputError(f"The environment variable {variable} must be an absolute path, but it is {text!r}.")
    if next(above for above in (folder, *folder.parents) if above.exists()).is_file():
        raise InputError(f"The environment variable {variable} must name a folder, but {text!r} is or lies in a file.")
    return folder


def writable(name: str, value: object) -> Path:
    """``value`` as the path of a file that can be written; nothing is written yet.

    Raises:
        InputError: It is no path, it is a folder, or no file can be made there.
    """
    path = place(name, value)
    if path.is_dir():
        raise InputError(f"{name} must be a file, but {path} is a folder; name a file in it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=above):
            return path
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{name} cannot be written to {path}: {why}; name another place.") from error


def one_of(name: str, value: object, known: Collection) -> None:
    """Check that a value is one of the known ones.

    Raises:
        InputError: The value is not known.
    """
    if not any(isinstance(value, type(one)) and value == one for one in known):  # an array equals nothing as a whole
        raise InputError(f"{name} must be one of {', '.join(map(repr, known))}, but it is {_shown(value)}.")


def known(kind: str, name: object, names: Collection[str]) -> None:
    """Check that the name of a network, a data set, ... is one of the known ones.

    Raises:
        UnknownNameError: The name is unknown.
    """
    if not isinstance(name, str) or name not in names:
        raise UnknownNameError(f"Unknown {kind} {_shown(name)}: choose one of {', '.join(names)}.")
