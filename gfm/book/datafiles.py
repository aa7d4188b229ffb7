"""The numbers of a figure or table: CSV for people, JSON with full digits, and a summary."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from gfm.errors import InputError
from gfm.files import write_text

__all__ = ["summary", "write", "write_table"]


def write(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Save arrays as ``name.json`` (any shapes) and ``name.csv`` (columns, padded with blanks).

    In the CSV the first axis runs down the rows; an array of more dimensions becomes the columns ``name[0]``,
    ``name[1]``, ... NaN and infinities become null in JSON and blanks in CSV.
    """
    arrays = {key: _array(key, value) for key, value in data.items()}
    plain = {key: _plain(value) for key, value in arrays.items()}
    columns = dict(_columns(arrays))
    _save(folder / name, json.dumps(plain, allow_nan=False), columns, zip_longest(*columns.values()))


def write_table(folder: Path, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Save a table as ``name.csv`` (9 digits) and ``name.json`` (a list of mappings, all digits)."""
    listed = [dict(zip(columns, (_plain(v) for v in row), strict=True)) for row in rows]
    _save(folder / name, json.dumps(listed, ensure_ascii=False, indent=1), columns, rows)


def _save(stem: Path, text: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    write_text(stem.with_name(f"{stem.name}.json"), text + "\n")
    lines = io.StringIO(newline="")
    csv.writer(lines).writerows([columns, *([_text(v) for v in row] for row in rows)])
    write_text(stem.with_name(f"{stem.name}.csv"), lines.getvalue())


def summary(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Shape and a few statistics (six digits) of each numeric array, with which a rerun is compared."""
    out = {}
    for key, value in data.items():
        array = _array(key, value)
        if array.dtype.kind not in "fiub":
            continue
        finite = array[np.isfinite(array)].astype(float)
        entry: dict[str, Any] = {"shape": list(array.shape), "finite": int(finite.size)}
        if finite.size:
            entry |= {"mean": _six(finite.mean()), "low": _six(finite.min()),
                      "high": _six(finite.max()), "last": _six(finite.flat[-1])}
        out[key] = entry
    return out


def _array(key: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiubU":
        raise InputError(f"Figure data {key!r} must be numbers or text, not {array.dtype}.")
    return array


def _columns(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for key, array in arrays.items():
        if array.ndim <= 1:
            yield key, array.reshape(-1)
            continue
        flat = array.reshape(len(array), -1)
        for i in range(flat.shape[1]):
            yield f"{key}[{i}]", flat[:, i]


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):
        return f"{value:.9g}" if math.isfinite(value) else ""
    return value


def _six(value: float) -> float:
    return float(f"{value:.6g}")
