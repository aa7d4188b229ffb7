"""What cells cost: measured seconds, estimates from smaller runs, and how long several machines take together."""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfm.book.cells import Cell
from gfm.store import Store

__all__ = ["estimates", "makespan"]

#: Parameters to which the time of a computation is proportional, all else being equal.
_PROPORTIONAL = {"steps", "substeps", "n", "runs", "samples", "epochs", "replicates", "repeats", "rounds"}

#: Parameters that must be equal: the time of another problem tells nothing.
_PROBLEM = {"data", "net", "size", "hidden", "optimizer"}


@dataclass(frozen=True)
class _Measured:
    parameters: Mapping[str, Any]
    seconds: float


def estimates(cells: Sequence[Cell]) -> list[float | None]:
    """Seconds for each cell: those of its stored result, or an estimate from a similar stored result; None if neither.

    The similar result is the one of the same experiment, on the same network and kind of data, that differs in the
    fewest parameters. Its seconds are multiplied by the ratios of the parameters to which time is proportional (steps,
    examples, runs ...). Only the order of magnitude can be expected to be right.
    """
    known = _measured({cell.experiment.name for cell in cells})
    out: list[float | None] = []
    for cell in cells:
        seconds = cell.stored[2]
        out.append(seconds if seconds is not None else _expected(cell, known.get(cell.experiment.name, ())))
    return out


def makespan(seconds: Iterable[float], machines: int) -> float:
    """Seconds until all cells are done, if each free machine takes the longest cell that is left."""
    free = [0.0] * machines
    for cell in sorted(seconds, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + cell)
    return max(free)


def _expected(cell: Cell, relatives: Iterable[_Measured]) -> float | None:
    wanted = json.loads(json.dumps(cell.parameters))  # as they are stored: lists for tuples

    def far(relative: _Measured) -> tuple[int, float]:
        differ = [name for name in wanted if relative.parameters.get(name) != wanted[name]]
        return len(differ), -relative.seconds  # of equally similar results the longest: its time is the most exact

    fixed = _PROBLEM & set(wanted)
    alike = (r for r in relatives if all(r.parameters.get(name) == wanted[name] for name in fixed))
    if not wanted:
        return None
    nearest = min(alike, key=far, default=None)
    if nearest is None:
        return None
    seconds = nearest.seconds
    for name in _PROPORTIONAL & set(wanted):
        then, now = nearest.parameters.get(name), wanted[name]
        if isinstance(then, (int, float)) and isinstance(now, (int, float)) and then > 0 and now > 0:
            seconds *= now / then
    return seconds


def _measured(names: Iterable[str]) -> dict[str, list[_Measured]]:
    """Parameters and seconds of every stored result of these experiments."""
    store = Store()
    out: dict[str, list[_Measured]] = {}
    for name in names:
        for folder in (store.folder, *store.committed):
            for file in (folder / name).glob("*/result.json"):
                try:
                    origin = json.loads(file.read_text(encoding="utf-8"))["provenance"]
                    found = _Measured(dict(origin["parameters"]), float(origin["seconds"]))
                except (OSError, ValueError, KeyError, TypeError):  # an incomplete file tells nothing
                    continue
                out.setdefault(name, []).append(found)
    return out
