"""What an experiment is: parameters (its fields), a data fingerprint, a computation."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gfm.device import device_for
from gfm.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["Context", "Experiment", "Obtain", "Progress", "Result"]

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)`` from time to time during a computation."""


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """What ``compute`` receives besides the parameters.

    Attributes:
        progress: to be called from time to time.
        checkpoint: the file in which a long computation may keep its state, so that it can resume after
            being killed; None if nothing is kept.
        devices: kinds of device that :meth:`device` has given, for the result's provenance.
    """

    progress: Progress = _silent
    checkpoint: Path | None = None
    devices: set[str] = field(default_factory=set)

    def device(self, dtype: "torch.dtype | None" = None) -> "torch.device":
        """Where to compute in this dtype (None: float64); see :func:`gfm.device.device_for`. Noted in ``devices``.

        Raises:
            InputError: The device that was asked for is unknown, not available here, or lacks the dtype.
        """
        device = device_for(dtype)
        self.devices.add(device.type)
        return device


@dataclass(frozen=True)
class Result:
    """What a computation returns.

    Attributes:
        arrays: name -> NumPy array (numbers, booleans or plain strings; no objects).
        info: values that JSON can hold: costs (``seconds``, ``gradients``, ``hvps``, ``thirds``), labels, scores.
        provenance: filled in by the store: key, parameters, versions, whether it was reused, and why.
    """

    arrays: Mapping[str, np.ndarray]
    info: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def read(self, reader: "Callable[[Result], Any]") -> Any:
        """``reader`` applied to the result, which gives an object such as a run."""
        return reader(self)


@dataclass(frozen=True)
class Experiment:
    """A computation named by its class and fixed by its fields.

    Subclasses are frozen dataclasses whose fields are plain numbers, strings, booleans, None, tuples of
    these, or a dataclass of these; they set ``name`` and write ``compute``. :func:`gfm.store.obtain` keeps the results.
    """

    name: ClassVar[str] = ""

    def data_fingerprint(self) -> str:
        """A digest of the data that the computation reads ('' if it reads none)."""
        return ""

    def compute(self, context: Context) -> Result:
        """Do the work, calling ``context.progress(done, total)`` from time to time.

        Returns:
            Arrays and info; the store adds the provenance.
        """
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """The fields as a plain dict; a field that is a dataclass is replaced by its own fields.

        Raises:
            InputError: A field is not plain data.
        """
        values: dict[str, Any] = {}
        for name in (f.name for f in dataclasses.fields(self)):
            value = getattr(self, name)
            nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
            values |= dataclasses.asdict(value) if nested else {name: value}
        return {name: _plain(value, f"{self.name}.{name}") for name, value in values.items()}


Obtain = Callable[[Experiment], Result]
"""Gives the result of an experiment: :func:`gfm.store.obtain`, or a notebook's ``element.obtain``."""


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
