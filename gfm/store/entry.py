"""Writing, reading and verifying the two files of a stored result: ``arrays.npz`` and ``result.json``."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gfm import files
from gfm.errors import InputError, UnreadableFileError
from gfm.files import check_archive, sha, understood
from gfm.store.experiment import Result

__all__ = ["canonical", "read_entry", "write_entry"]

_SCHEMA = "gfm-result/1"


def write_entry(folder: Path, name: str, key: str, result: Result) -> None:
    """Write both files of an entry into an existing folder.

    Raises:
        InputError: An array or an item of the info is not plain data.
    """
    packed = _pack(result.arrays)
    payload = {"schema": _SCHEMA, "experiment": name, "key": key, "arrays_sha256": sha(packed),
               "info": dict(result.info), "provenance": dict(result.provenance)}
    payload = json.loads(canonical(payload))
    payload["checksum"] = sha(canonical(payload))
    (folder / "arrays.npz").write_bytes(packed)
    text = json.dumps(payload, indent=1, sort_keys=True) + "\n"
    (folder / "result.json").write_text(text, encoding="utf-8")


def read_entry(entry: Path, name: str, key: str) -> Result:
    """Read the two files of an entry and verify them.

    Raises:
        UnreadableFileError: A file is missing, broken, altered or belongs to another entry.
    """
    try:
        payload = json.loads((entry / "result.json").read_text(encoding="utf-8"))
        packed = (entry / "arrays.npz").read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFileError(f"{entry.name}: a file is missing or not JSON.") from error
    if not isinstance(payload, dict) or payload.get("schema") != _SCHEMA:
        raise UnreadableFileError(f"{entry.name}: result.json is not a {_SCHEMA} file.")
    checksum = payload.pop("checksum", None)
    if checksum != sha(canonical(payload)):
        raise UnreadableFileError(f"{entry.name}: result.json does not match its checksum.")
    info, provenance = payload.get("info"), payload.get("provenance")
    if not (isinstance(info, dict) and isinstance(provenance, dict)):
        raise UnreadableFileError(f"{entry.name}: result.json lacks info or provenance.")
    if (payload.get("experiment"), payload.get("key")) != (name, key):
        raise UnreadableFileError(f"{entry.name}: it belongs to another experiment or key.")
    if payload.get("arrays_sha256") != sha(packed):
        raise UnreadableFileError(f"{entry.name}: arrays.npz does not match its checksum.")
    with understood(lambda why: f"{entry.name}: arrays.npz is not an archive of arrays ({why})."):
        check_archive(io.BytesIO(packed))
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            arrays = {item: file[item] for item in file.files}
    return Result(arrays, info, provenance)


def _pack(arrays: Any) -> bytes:
    plain = {}
    for name, value in arrays.items():
        plain[name] = np.asarray(value)
        if plain[name].dtype.hasobject:
            raise InputError(f"Result array {name!r} holds Python objects; store numbers or text.")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **plain)
    return buffer.getvalue()


def canonical(value: Any) -> str:
    """The value as JSON in a canonical form, so that equal values have equal digests."""
    return files.canonical(value, _jsonable)


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise InputError(f"A {type(value).__name__} cannot be stored in a result's info; use plain data.")
