"""Resuming a recording that was stopped: its checkpoint.

A checkpoint is a file of tensors and plain containers with a checksum, read back with ``weights_only`` so that nothing
in it is executed. It carries a fingerprint of the call and is refused by any other call.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfm.errors import UnreadableFileError
from gfm.files import read_sealed, write_sealed

__all__ = ["fingerprint", "read", "write"]

_FORMAT = "gfm-recording/3"


def fingerprint(call: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A digest of a call's settings and tensors of any shape (data and initial weights)."""
    digest = hashlib.sha256(repr(sorted(call.items())).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write(path: Path, mark: str, content: Mapping[str, Any]) -> None:
    """Write ``content`` under the fingerprint ``mark``, atomically."""
    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "fingerprint": mark, **content}, buffer)
    write_sealed(path, buffer.getvalue())


def read(path: Path, mark: str) -> dict[str, Any] | None:
    """The checkpoint at ``path`` if it belongs to the call, None if there is none.

    Raises:
        UnreadableFileError: The file is not a checkpoint, or belongs to another call.
    """
    if not path.exists():
        return None
    try:
        content = torch.load(io.BytesIO(read_sealed(path)), map_location="cpu", weights_only=True)
        known = content["format"] == _FORMAT
    except Exception as failure:
        raise UnreadableFileError(
            f"{path} is not a readable checkpoint; remove it to start anew."
        ) from failure
    if not known or content["fingerprint"] != mark:
        raise UnreadableFileError(
            f"{path} is a checkpoint of another recording; remove it or choose another path."
        )
    return content
