"""What an experiment is: parameters (its fields), a data fingerprint, a computation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gfm.errors import InputError

__all__ = ["Experiment", "Progress", "Result", "checkpoint_file", "checkpointing"]

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` now and then during a computation."""


_checkpoint: ContextVar[Path | None] = ContextVar("checkpoint", default=None)


def checkpoint_file() -> Path | None:
    """Where a long computation may keep its state, to go on from after a kill; None outside a store."""
    return _checkpoint.get()


@contextmanager
def checkpointing(file: Path) -> Iterator[None]:
    """Within this context :func:`checkpoint_file` is ``file``."""
    token = _checkpoint.set(file)
    try:
        yield
    finally:
        _checkpoint.reset(token)


@dataclass(frozen=True)
class Result:
    """What a computation leaves behind.

    arrays: name -> NumPy array (numbers, booleans or plain strings; no objects).
    info: what JSON can hold: costs (``seconds``, ``gradients``, ``hvps``, ``thirds``), labels, scores.
    provenance: filled in by the store: key, parameters, versions, whether it was reused, and why.
    """

    arrays: Mapping[str, np.ndarray]
    info: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A computation named by its class and fixed by its fields.

    Subclasses are frozen dataclasses whose fields are plain numbers, strings, booleans, None or
    tuples of these; they set ``name`` and write ``compute``. Results are kept by
    :func:`gfm.store.obtain`.
    """

    name: ClassVar[str] = ""

    def data_fingerprint(self) -> str:
        """A digest of the data that the computation reads ('' where it reads none)."""
        return ""

    def compute(self, progress: Progress) -> Result:
        """Do the work; report ``progress(done, total)`` now and then.

        Returns: a :class:`Result` with arrays and info.
        """
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The fields as a plain dict. Raises InputError where a field is not plain."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: _plain(value, f"{self.name}.{name}") for name, value in values.items()}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return [_plain(item, where) for item in value]
    raise InputError(
        f"{where} is a {type(value).__name__}; an experiment's fields must be numbers, strings, "
        "booleans, None or tuples of these."
    )
