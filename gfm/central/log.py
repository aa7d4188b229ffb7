"""The records of a run: observations by process and step, and notes that are also warnings."""

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
    """Observations by process and name, a row for each step; what is not observed, or of no such length, is NaN."""

    def __init__(self, steps: int):
        self.steps = steps
        self.seen: dict[str, dict[str, Any]] = {}

    def write(self, process: str, t: int, values: Mapping[str, Any]) -> None:
        """Record numbers or vectors (k,) by name."""
        kept = self.seen.setdefault(process, {})
        for name, value in values.items():
            if name == "weights":
                kept.setdefault(name, {})[t] = value
                continue
            rows = kept.get(name)
            if rows is None or rows.shape[1:] < np.shape(value):
                kept[name] = np.full((self.steps + 1, *np.shape(value)), np.nan)
                if rows is not None:
                    kept[name][:, : rows.shape[1]] = rows
            kept[name][(t, slice(len(value))) if np.ndim(value) else t] = value

    def arrays(self, process: str) -> dict[str, np.ndarray]:
        """A process's observations by name, (steps + 1, ...); weights only at the steps where they were kept."""
        arrays = dict(self.seen.get(process, {}))
        if weights := arrays.get("weights"):
            arrays |= {"weights": np.stack(list(weights.values())), "weights_steps": np.array(list(weights))}
        return arrays
