"""A state written as a checkpoint was: the same nesting, names, dtypes and settings."""

import os
import re
import shutil
from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gfm.checks import place
from gfm.errors import InputError, UnreadableFileError
from gfm.files import replacing
from gfm.trajectories.finding import only_checkpoint
from gfm.trajectories.layout import fitted
from gfm.trajectories.saved import INDEX, Saved, holds_tensors, open_saved, suffix_of

if TYPE_CHECKING:
    from gfm.trajectories.trajectories import Trajectories

__all__ = ["save_checkpoint", "write_like"]

_STATE_OF_TRAINING = re.compile(r"optim|sched|scaler|rng|random|loops|callbacks|ema", re.IGNORECASE)
_COUNTER = re.compile(r"step|iter|epoch|update", re.IGNORECASE)
_SETTINGS = (".json", ".txt", ".model", ".jinja", ".yaml", ".yml")  # of a network and its tokenizer


def save_checkpoint(  # noqa: D417
    self: "Trajectories", path: str | Path, like: str | Path, run: int = 0, step: int | None = None,
    key: str | None = None
) -> Path:
    """Write one state as a checkpoint that is loaded as the checkpoint ``like`` is.

    It has the nesting, names, dtypes and settings of ``like``, and the further files of its folder (configuration,
    tokenizer). States of optimizers, losses and counters are left out, except that a counter equal to the first
    recorded step becomes the new step.

    Args:
        path: file to write, or folder if ``like`` is one.
        like: a file, or a folder with one checkpoint (``checkpoint-500``).
        run: number of the run.
        step: optimizer step, one of ``steps``; by default the last.
        key: where the state dict is in ``like``; see :func:`gfm.trajectories.read_checkpoints`.

    Returns:
        The file or folder written.

    Raises:
        UnreadableFileError: ``like`` is no checkpoint.
        InputError: There is no such state, it does not fit ``like``, or ``path`` exists or cannot be written.
    """
    source, target, state = place("like", like), place("path", path), self.state_dict(run, step)
    file = only_checkpoint(source) if source.is_dir() else source
    if file is None:
        raise UnreadableFileError(f"{source} holds no checkpoint.")
    saved = open_saved(file, key)
    shapes = {name: tuple(value.shape) for name, value in saved.tensors.items() if name not in saved.tied}
    state = fitted(state, shapes, saved.tied, "the trajectory", saved.name)
    steps = (int(self.steps[0]), int(self.steps[-1] if step is None else step))
    return write_like(saved, state, target, steps, source.is_dir())


def write_like(saved: Saved, tensors: Mapping[str, Tensor], path: Path, steps: tuple[int, int], folder: bool) -> Path:
    """Write ``tensors`` as ``saved`` was written: nesting, dtypes, settings and further files are the same.

    Beside the state dict only settings are kept (words, and mappings that are not an optimizer's state), and counters
    equal to one of ``steps``, which become the new step; nothing else is known about the new state.

    Args:
        saved: the checkpoint to resemble; what it holds is changed.
        tensors: the new values, by the names in ``saved``; further names of tied tensors are left out.
        path: file or folder to write.
        steps: a step that ``saved`` may contain, and the new step.
        folder: whether the checkpoint is the folder in which ``saved`` lies.

    Returns:
        The file or folder written.

    Raises:
        InputError: A value does not fit the dtype, the path has another suffix, exists or cannot be written.
    """
    cast = {}
    for name, value in tensors.items():
        like = saved.tensors[name]
        cast[name] = value.to(like.dtype).clone(memory_format=torch.contiguous_format)
        if not torch.equal(cast[name].double().isfinite(), value.double().isfinite()):
            raise InputError(f"{name!r} has values too large for {like.dtype}, the dtype in {saved.name}.")
    source = saved.file.name.removesuffix(INDEX)
    suffix = suffix_of(source) or Path(source).suffix
    _unused(path, folder)
    if not folder and not path.name.endswith(suffix):
        if suffix_of(path.name) or path.suffix == ".npz":
            raise InputError(f"{path.name} must end in {suffix}, as the checkpoints read do.")
        path = path.with_name(path.name + suffix)
        _unused(path, folder)
    with replacing(path) as partial:
        if folder:
            partial.mkdir()
            for beside in saved.file.parent.iterdir():
                if beside.suffix in _SETTINGS and beside.name != "trainer_state.json" and INDEX not in beside.name:
                    shutil.copy2(beside, partial / beside.name)
        _write(saved, cast, partial / source if folder else partial, steps)
    return path


def _unused(path: Path, folder: bool) -> None:
    if path.exists() and not (folder and path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} exists already: name a new {'folder' if folder else 'file'}, as the checkpoints are.")


def _write(saved: Saved, tensors: dict[str, Tensor], file: Path, steps: tuple[int, int]) -> None:
    if suffix_of(saved.file.name.removesuffix(INDEX)).lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            save_file(tensors, file, saved.metadata)
        except SafetensorError as error:
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        return
    content: Any = saved.tensors if saved.content is None else saved.content
    state = content
    for key in saved.keys:
        _prune(state, (key,), steps)
        state = state[key]
    _prune(state, saved.tensors, steps)
    for name in [*tensors, *saved.tied]:
        state[name] = tensors[saved.tied.get(name, name)]
    with open(file, "wb") as opened:  # torch's own errors do not say why a file cannot be written
        torch.save(content, opened)


def _prune(content: Any, kept: Collection[str], steps: tuple[int, int]) -> None:
    """Remove from ``content`` what was true only of the saved state."""
    for key, value in list(content.items()):
        if key in kept or isinstance(value, str):
            continue
        if type(value) is int and value in steps and _COUNTER.search(str(key)):
            content[key] = steps[1]
        elif not isinstance(value, (Mapping, Namespace)) or _STATE_OF_TRAINING.search(str(key)) or holds_tensors(value):
            del content[key]
