"""One checkpoint on disk: its tensors by name, read without running code, and what is needed to write one like it."""

import json
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfm.errors import InputError, UnreadableFileError
from gfm.files import check_archive

__all__ = ["INDEX", "KEYS", "SUFFIXES", "Saved", "holds_optimizer", "holds_tensors", "open_saved", "shards_of",
           "suffix_of"]

SUFFIXES = (".safetensors", ".pth.tar", ".pt.tar", ".pt", ".pth", ".ckpt", ".bin")
INDEX = ".index.json"
KEYS = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "params")
"""Keys under which people save a module's state dict beside other things."""

# Allowed in addition to torch's own list: numbers of NumPy and parsed arguments, which hold data and run no code.
_SCALAR = np.float64(0).__reduce__()[0]
_PLAIN_DATA: list[Any] = [Namespace, np.dtype, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
                          _SCALAR, (_SCALAR, "numpy.core.multiarray.scalar")]
_SINGLE = (int, float, str, np.generic, type(None))


@dataclass
class Saved:
    """What a checkpoint holds.

    Attributes:
        file: the file read; for a checkpoint in shards, its index.
        tensors: by name, in the order of the file; a tensor with several names occurs under each.
        tied: further name -> first name of the same tensor, if the file notes it.
        ordered: whether the file keeps the order of the state dict (``.safetensors`` does not).
        content: what a file of torch held; None for others.
        keys: where the state dict is in ``content``.
        metadata: of a ``.safetensors`` file.
    """

    file: Path
    tensors: dict[str, Tensor]
    tied: dict[str, str]
    ordered: bool
    content: Any = None
    keys: tuple[str, ...] = ()
    metadata: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The name of the file with that of its folder, for messages."""
        return _name(self.file)


def open_saved(file: Path, key: str | None = None) -> Saved:
    """Read a checkpoint.

    Args:
        file: a file that torch or safetensors wrote, or the index of a checkpoint in shards.
        key: where the state dict is in a mapping; by default under the one of :data:`KEYS` that holds tensors.

    Raises:
        UnreadableFileError: The file is missing, incomplete, contains Python objects, or holds no state dict.
        InputError: It holds several state dicts, or tensors that are complex, sparse or quantized.
    """
    try:
        with file.open("rb") as opened:
            head = opened.read(24)
    except OSError as error:
        raise UnreadableFileError(f"The checkpoint {_name(file)} cannot be opened ({error.strerror}).") from None
    if not head:
        raise UnreadableFileError(f"{_name(file)} is an empty file.")
    if head == b"version https://git-lfs.":
        raise UnreadableFileError(f"{_name(file)} only points to a file of Git LFS; get that with `git lfs pull`.")
    if file.name.endswith(INDEX):
        parts = [open_saved(shard, key) for shard in shards_of(file)]
        tensors = {name: value for part in parts for name, value in part.tensors.items()}
        tied = {name: first for part in parts for name, first in part.tied.items()}
        wanted = set(json.loads(file.read_text(encoding="utf-8"))["weight_map"])
        if wanted != set(tensors) or sum(len(part.tensors) for part in parts) != len(tensors):
            odd = sorted(wanted ^ set(tensors)) or ["one of them"]
            raise UnreadableFileError(f"The shards of {_name(file)} do not hold each tensor once: see {odd[0]!r}.")
        saved = Saved(file, tensors, tied, all(p.ordered for p in parts), None, (), parts[0].metadata)
    elif suffix_of(file.name).lower() == ".safetensors":
        tensors, metadata = _safetensors(file)
        # safetensors' save_model() leaves out further names of a tensor, and notes them in the metadata.
        tied = {name: first for name, first in (metadata or {}).items() if name not in tensors and first in tensors}
        saved = Saved(file, tensors, tied, False, None, (), metadata)
    else:
        content = _torch(file)
        keys = _place(file, content, key)
        state = content
        for word in keys:
            state = state[word]
        state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        first: dict[Any, str] = {}
        tied = {}
        for name, value in state.items():
            if value.layout == torch.strided and value.numel():
                place = (value.data_ptr(), value.dtype, value.shape, value.stride())
                if first.setdefault(place, name) != name:
                    tied[name] = first[place]
        saved = Saved(file, {name: value.detach() for name, value in state.items()}, tied, True, content, keys)
    for name, value in saved.tensors.items():
        kind = "complex" if value.is_complex() else "quantized" if value.is_quantized else (
            str(value.layout).removeprefix("torch.") if value.layout != torch.strided else
            "without values" if value.is_meta else "")
        if kind:
            raise InputError(f"{name!r} in {_name(file)} is {kind}; only real dense tensors can be read.")
    return saved


def suffix_of(name: str) -> str:
    """The suffix that marks a file as a checkpoint, in lower or upper case; '' if there is none."""
    return next((name[-len(end):] for end in SUFFIXES if name.lower().endswith(end)), "")


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in order.

    Raises:
        UnreadableFileError: The index is broken, or names files in other folders.
    """
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("it must name files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(f"{_name(index)} is no index of shards ({error}).") from None
    return [index.parent / name for name in names]


def holds_optimizer(file: Path) -> bool:
    """Whether a file of torch is readable and holds the state of an optimizer, not of a module."""
    try:
        return not file.name.lower().endswith((".safetensors", INDEX)) and _is_optimizer(_torch(file))
    except UnreadableFileError:
        return False


# -- reading -------------------------------------------------------------------------------------
def _safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    from safetensors import safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()
    except Exception as error:  # safetensors raises several kinds of errors for a broken file
        raise UnreadableFileError(f"{_name(file)} is no complete .safetensors file ({_line(error)}).") from None


def _torch(file: Path) -> Any:
    try:
        check_archive(file, whole=True)  # torch verifies no checksum
        with torch.serialization.safe_globals(_PLAIN_DATA):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a broken file
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise UnreadableFileError(
                f"{_name(file)} contains objects of {found[1]}, which are not read since that could run code; save a "
                "dictionary of plain tensors, numbers and words, such as module.state_dict()."
            ) from None
        raise UnreadableFileError(
            f"{_name(file)} cannot be read as a file of torch ({_line(error)}); it may be incomplete."
        ) from None


def _place(file: Path, content: Any, key: str | None) -> tuple[str, ...]:
    """The keys that lead to the state dict."""
    if key is not None:
        if not isinstance(content, Mapping) or not isinstance(content.get(key), Mapping):
            held = f"its keys are {list(content)[:6]}" if isinstance(content, Mapping) else "it holds no mapping"
            raise UnreadableFileError(f"{_name(file)} has no state dict under the key {key!r}; {held}.")
        return key, *_place(file, content[key], None)
    if _is_state(content):
        return ()
    if _is_optimizer(content):
        raise UnreadableFileError(f"{_name(file)} holds the state of an optimizer, not of a module.")
    if not isinstance(content, Mapping):
        raise UnreadableFileError(f"{_name(file)} holds an object of type {type(content).__name__}, no state dict.")
    places = [(word, *rest) for word in KEYS if isinstance(content.get(word), Mapping)
              for rest in [_try(file, content[word])] if rest is not None]
    if len(places) > 1:
        several = ", ".join(repr(place[0]) for place in places)
        raise InputError(f"{_name(file)} holds several state dicts (under {several}); choose with key=.")
    if places:
        return places[0]
    for word in KEYS:
        if holds_tensors(content.get(word)):
            return _place(file, content[word], None)  # raises an error that says what is wrong
    others = [name for name, value in content.items() if _is_state(value)]
    odd = next(((k, v) for k, v in content.items() if not (isinstance(k, str) and isinstance(v, Tensor))), None)
    if others:
        raise UnreadableFileError(
            f"{_name(file)} has no state dict under a usual key, but tensors under {others}; choose one with key=."
        )
    if odd is None:
        raise UnreadableFileError(f"{_name(file)} is empty: it holds no tensors.")
    raise UnreadableFileError(
        f"{_name(file)} holds no state dict (name -> tensor): {odd[0]!r} in it is of type {type(odd[1]).__name__}."
    )


def _try(file: Path, content: Any) -> tuple[str, ...] | None:
    try:
        return _place(file, content, None)
    except UnreadableFileError:
        return None


def _is_state(content: Any) -> bool:
    """Whether it maps names to tensors, and otherwise only to numbers and words."""
    return isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values()) and all(
        isinstance(name, str) and isinstance(value, (Tensor, *_SINGLE)) for name, value in content.items())


def _is_optimizer(content: Any) -> bool:
    return isinstance(content, Mapping) and "param_groups" in content and "state" in content


def _line(error: Exception) -> str:
    said = (str(error).strip().splitlines() or [""])[0].partition(". ")[0]
    return f"{type(error).__name__}: {said[:160]}"


def _name(file: Path) -> str:
    """The name of a file, with that of its folder where many folders have such a file."""
    return f"{file.parent.name}/{file.name}"


def holds_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or a container with one."""
    if isinstance(value, Mapping):
        return any(map(holds_tensors, value.values()))
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(holds_tensors, value)))
