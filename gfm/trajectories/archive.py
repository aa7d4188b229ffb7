"""One uncompressed .npz with a JSON header beside its arrays, without pickle, written atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gfm.checks import place
from gfm.errors import InputError
from gfm.files import replacing

__all__ = ["header_of", "write_archive"]


def write_archive(path: str | Path, header: str, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write the arrays, and the header as the member ``header``; folders are created if necessary.

    Args:
        path: of the file; the suffix .npz is added unless it is there.
        header: JSON.
        arrays: by name, of numbers and of any shape.

    Returns:
        The path written, which ends in .npz.

    Raises:
        InputError: The path is a folder or cannot be written to.
    """
    path = place("path", path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file.")
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    words = np.frombuffer(header.encode(), dtype=np.uint8)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays, header=words)
    return path


def header_of(file: Any) -> dict[str, Any]:
    """The header of a file that ``numpy.load`` has opened.

    Raises:
        KeyError: There is none.
        ValueError: It is not a JSON object.
    """
    header = json.loads(file["header"].tobytes().decode())
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header
