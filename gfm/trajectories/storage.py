"""Methods of ``Trajectories``, on disk: NPZ for numbers, JSON for the rest, without pickle, written atomically."""

import json
import zipfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gfm.checks import flag, place
from gfm.errors import InputError, UnreadableFileError
from gfm.files import check_archive, understood
from gfm.trajectories.archive import header_of, write_archive
from gfm.trajectories.layout import Layout
from gfm.trajectories.saved import suffix_of

if TYPE_CHECKING:
    from gfm.trajectories.trajectories import Trajectories

__all__ = ["load", "save"]

SCHEMA = "gfm.trajectories/1"


def save(self: "Trajectories", path: str | Path) -> Path:
    """Write atomically to ``path`` (.npz), without pickle; returns the path written.

    Raises:
        InputError: ``path`` is a folder or cannot be written to, or ``meta`` is not plain JSON.
    """
    header = {
        "schema": SCHEMA,
        "shape": list(self.weights.shape),
        "groups": None if self.groups is None else [[name, len(list(same))] for name, same in groupby(self.groups)],
        "meta": self.meta,
        "states": sorted(self.states),
        "layout": None if self.layout is None else vars(self.layout),
        "buffers": sorted(self.buffers),
    }
    try:
        text = json.dumps(header, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"meta of the trajectories is not plain JSON ({error}).") from None
    arrays: dict[str, Any] = {f"state_{name}": value for name, value in self.states.items()}
    for number, name in enumerate(sorted(self.buffers)):
        value = self.buffers[name]
        arrays[f"buffer_{number}"] = value[:, :1] if (value == value[:, :1]).all() else value  # once if constant
    return write_archive(path, text, {"weights": self.weights, "steps": self.steps, **arrays})


def load(cls: "type[Trajectories]", path: str | Path, memory_map: bool = False) -> "Trajectories":
    """Read what :meth:`save` wrote; with ``memory_map`` weights are read from disk only when they are used.

    Raises:
        UnreadableFileError: The file is missing, truncated or not a file of trajectories.
        InputError: ``path`` is no path.
    """
    path, memory_map = place("path", path), flag("memory_map", memory_map)
    if not path.is_file():
        raise UnreadableFileError(f"There is no file of trajectories at {path}.")
    if suffix_of(path.name):
        raise UnreadableFileError(f"{path} is one checkpoint: name the folder that holds the checkpoints of the run.")
    with understood(lambda why: f"{path} is not a complete file of trajectories ({why}); write it again with save()."):
        check_archive(path, whole=memory_map)  # a map looks at no checksum
        with np.load(path, allow_pickle=False) as file:
            header = header_of(file)
            steps = file["steps"]
            weights = None if memory_map else file["weights"]
            states = {name: file[f"state_{name}"] for name in header["states"]}
            names = header.get("buffers", ())  # none in older files
            stored = {name: file[f"buffer_{number}"] for number, name in enumerate(names)}
        if header["schema"] != SCHEMA:
            raise ValueError(f"its schema is {header['schema']!r}")
        if weights is None:
            weights = _mapped(path, "weights.npy")
        if list(weights.shape) != header["shape"]:
            raise ValueError("its weights have another shape than its header says")
        groups = header["groups"]
        labels = None if groups is None else [name for name, count in groups for _ in range(count)]
        layout = None if header.get("layout") is None else Layout(**header["layout"])
        lead = weights.shape[:2]
        buffers = {name: np.broadcast_to(value, (*lead, *value.shape[2:])) for name, value in stored.items()}
        return cls(weights, steps, labels, header["meta"], states, layout, buffers)


def _mapped(path: Path, member: str) -> np.ndarray:
    """A read-only memory map of one uncompressed member of an .npz (NumPy itself maps only .npy)."""
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        if archive.getinfo(member).compress_type != zipfile.ZIP_STORED:
            raise ValueError("its weights are compressed and cannot be memory-mapped")
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(stream)
        header_length = stream.tell()
        start = archive.getinfo(member).header_offset
    with path.open("rb") as file:  # the local zip header: 30 bytes, then name and extra field
        file.seek(start + 26)
        lengths = np.frombuffer(file.read(4), dtype="<u2")
    offset = start + 30 + int(lengths.sum()) + header_length
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order=order)
