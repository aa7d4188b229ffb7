"""The records of a run: observations by process and step, and notes that are also warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["Log", "Notes"]


class Notes(list[str]):
    """Sentences about the result; each is also issued as a warning once the work concerned is done."""

    @contextmanager
    def listening(self, process: str, t: int) -> Iterator[None]:
        """Turn warnings raised during a process's work into notes: the first of each kind, with its step."""
        known = len(self)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for item in caught:
            text = str(item.message)
            if not any(note.startswith(f"{process} at ") and note.endswith(f": {text}") for note in self):
                self.append(f"{process} at step {t}: {text}")
        for note in self[known:]:
            warnings.warn(note, stacklevel=4)  # attributed to the run's caller


class Log:
    """Observations by process, name and step; rows of different length are padded with NaN."""

    def __init__(self, steps: int):
        self.steps = steps
        self.seen: dict[str, dict[str, dict[int, Any]]] = {}

    def write(self, process: str, t: int, values: Mapping[str, Any]) -> None:
        """Record numbers or vectors (k,) by name."""
        for name, value in values.items():
            self.seen.setdefault(process, {}).setdefault(name, {})[t] = value

    def arrays(self, process: str) -> dict[str, np.ndarray]:
        """A process's observations by name, (steps + 1, ...); weights only at the steps where they were kept."""
        arrays: dict[str, np.ndarray] = {}
        for name, rows in self.seen.get(process, {}).items():
            if name == "weights":
                arrays["weights"] = np.stack([rows[t] for t in sorted(rows)])
                arrays["weights_steps"] = np.array(sorted(rows))
                continue
            if isinstance(next(iter(rows.values())), np.ndarray):
                arrays[name] = np.full((self.steps + 1, max(map(len, rows.values()))), np.nan)
                for t, value in rows.items():
                    arrays[name][t, : len(value)] = value
            else:
                arrays[name] = np.full(self.steps + 1, np.nan)
                arrays[name][list(rows)] = list(rows.values())
        return arrays
