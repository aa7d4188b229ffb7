"""Trajectories from a folder of checkpoints: state dicts saved during one training run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError, UnreadableFileError
from gfm.trajectories.trajectories import Trajectories

__all__ = ["read_checkpoints"]

SUFFIXES = (".pt", ".pth", ".safetensors")


def read_checkpoints(folder: str | Path, pattern: str = "*") -> Trajectories:
    """One run from the checkpoints in ``folder``, ordered by the last number in their names.

    Every file is a state dict (name -> tensor), or a mapping that contains one under ``"state_dict"`` or
    ``"model"``. Files ``.pt`` and ``.pth`` are read by torch with ``weights_only=True``, so that no code in
    the file is run, and ``.safetensors`` by safetensors. The numbers in the names are taken as optimizer
    steps; the groups are the tensors' names. Tensors that are not floating point (counters) are left out.

    Args:
        folder: contains the checkpoints.
        pattern: glob pattern of the file names.

    Raises:
        UnreadableFileError: The folder is missing, or a file is not such a checkpoint.
        InputError: There are fewer than two files, a name has no number, or the networks differ.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UnreadableFileError(f"There is no folder of checkpoints at {folder}.")
    files = [f for f in folder.glob(pattern) if f.suffix in SUFFIXES]
    if len(files) < 2:
        raise InputError(f"{folder} holds {len(files)} checkpoints ({', '.join(SUFFIXES)}); two are needed.")
    numbered = sorted((_number(file), file) for file in files)
    shapes: dict[str, tuple[int, ...]] = {}
    states, dtypes = [], set()
    for _, file in numbered:
        tensors = {k: v for k, v in _read(file).items() if v.is_floating_point()}
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        if not shapes:
            shapes = found
        if found != shapes:
            raise InputError(f"{file.name} holds other tensors than {numbered[0][1].name}.")
        dtypes |= {value.dtype for value in tensors.values()}
        wide = torch.float64 if torch.float64 in dtypes else torch.float32
        states.append(torch.cat([tensors[n].detach().flatten().to(wide) for n in shapes]).numpy())
    groups = [name for name, shape in shapes.items() for _ in range(int(np.prod(shape)))]
    steps = np.array([number for number, _ in numbered])
    return Trajectories(np.stack(states)[None], steps, groups, {"checkpoints": len(files)})


def _number(file: Path) -> int:
    numbers = re.findall(r"\d+", file.stem)
    if not numbers:
        raise InputError(f"The checkpoint {file.name} has no number in its name; name it by its step.")
    return int(numbers[-1])


def _read(file: Path) -> Mapping[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  torch raises many kinds of errors for a broken file
        raise UnreadableFileError(
            f"{file.name} is no checkpoint of plain tensors ({type(error).__name__}); save "
            "module.state_dict() and nothing else."
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UnreadableFileError(f"{file.name} holds no state dict (name -> tensor).")
    return content
