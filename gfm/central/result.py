"""The result of a run: plain arrays, settings and costs; stored without pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gfm.checks import place
from gfm.errors import InputError, UnknownNameError, UnreadableFileError
from gfm.files import check_archive, replacing, understood

__all__ = ["Run", "Series"]

_FORMAT = "gfm-run/1"


class Series(dict[str, np.ndarray]):
    """The measurements of one process: arrays ``(steps + 1, ...)`` by name, also as attributes.

    An entry is NaN where it was not measured; a name that was never measured raises UnknownNameError.
    """

    def __missing__(self, name: str) -> np.ndarray:
        raise UnknownNameError(f"{name!r} was not measured; measured were {', '.join(sorted(self))}.")

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in self:
            raise AttributeError(f"{name!r} was not measured; measured were {', '.join(sorted(self))}")
        return self[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


@dataclass
class Run:
    """Processes run in lockstep. ``run["discrete"].loss`` is (steps + 1,).

    Args:
        series: one ``Series`` for each process.
        distances: ``"a-b"`` -> (steps + 1,) Euclidean distances between processes a and b.
        settings: the call's settings.
        costs: gradients, hvps, thirds and seconds of each process.
        notes: warnings about the result, in words.
    """

    series: dict[str, Series]
    distances: dict[str, np.ndarray]
    settings: dict[str, Any]
    costs: dict[str, dict[str, float]]
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, process: str) -> Series:
        """The measurements of a process.

        Raises:
            UnknownNameError: The run does not have it.
        """
        if not isinstance(process, str) or process not in self.series:
            raise UnknownNameError(f"No process {process!r} in this run; it has {', '.join(self.series)}.")
        return self.series[process]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(next(iter(self.series.values()))["loss"]) - 1

    def distance(self, a: str, b: str) -> np.ndarray:
        """(steps + 1,) Euclidean distance between the weights of two processes."""
        self[a], self[b]
        if a == b:
            return np.zeros(self.steps + 1)
        return self.distances[f"{a}-{b}" if f"{a}-{b}" in self.distances else f"{b}-{a}"]

    # --- plain data ---------------------------------------------------------------------------

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays (steps + 1, ...) by ``process/name``, and a description in plain JSON data: the whole run."""
        arrays = {f"{p}/{n}": a for p, series in self.series.items() for n, a in series.items()}
        arrays |= {f"distance/{n}": a for n, a in self.distances.items()}
        info = {
            "format": _FORMAT,
            "processes": list(self.series),
            "settings": self.settings,
            "costs": self.costs,
            "notes": self.notes,
        }
        return arrays, info

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> "Run":
        """The inverse of ``to_arrays``, for arrays (steps + 1, ...).

        Raises:
            UnreadableFileError: The data are not a complete stored run.
        """
        if not isinstance(info, Mapping):
            raise UnreadableFileError("This is not a stored run (its description is no mapping); run it again.")
        if info.get("format") != _FORMAT:
            raise UnreadableFileError(f"This is not a stored run (format {info.get('format')!r}); run it again.")
        try:
            parts: dict[str, dict[str, np.ndarray]] = {p: {} for p in [*info["processes"], "distance"]}
            for name, array in arrays.items():
                process, _, quantity = name.partition("/")
                parts[process][quantity] = array
            distances = parts.pop("distance")
            series = {p: Series(a) for p, a in parts.items()}
            return cls(series, distances, dict(info["settings"]), dict(info["costs"]), list(info["notes"]))
        except (KeyError, TypeError, ValueError) as failure:
            raise UnreadableFileError(f"This is not a complete stored run ({failure!r}); run it again.") from failure

    def save(self, path: str | Path) -> None:
        """Write one NPZ file atomically; its entry ``info`` is JSON.

        Raises:
            InputError: The path does not end in .npz or cannot be written.
        """
        path = place("path", path)
        if path.is_dir():
            raise InputError(f"{path} is a folder: name a file for the run.")
        if path.suffix != ".npz":
            raise InputError(f"A run is saved as .npz, but the path is {path.name!r}.")
        arrays, info = self.to_arrays()
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, info=np.array(json.dumps(info)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read what ``save`` wrote.

        Raises:
            UnreadableFileError: The file is missing, truncated or not a run.
            InputError: ``path`` is no path.
        """
        path = place("path", path)
        with understood(lambda why: f"{path} is not a readable run ({why}); run it again."):
            check_archive(path)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            info = json.loads(str(arrays.pop("info")))
        return cls.from_arrays(arrays, info)
