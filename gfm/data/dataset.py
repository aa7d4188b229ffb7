"""A data set: tensors, a name and a fingerprint."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import torch
from torch import Tensor

from gfm.checks import checked, floating, instance, whole
from gfm.errors import InputError

__all__ = ["IGNORE", "Dataset", "one_hot"]

IGNORE = -1
"""The integer target of a masked position, which no loss counts."""


_ARRAYS = ("inputs", "targets", "test_inputs", "test_targets")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test arrays, in the form that losses expect.

    Attributes:
        name: for example ``"digits"``.
        inputs: ``(n, ...)`` floating, or ``(n, T)`` int64 tokens.
        targets: one of ``(n, outputs)`` floating (one-hot rows, +-1 signs, or regression values), for "mse"; ``(n,)``
            int64 class indices; ``(n, T)`` int64 class indices of a sequence, ``IGNORE`` (-1) where masked.
        outputs: the number of a network's outputs (per position, for sequences).
        vocabulary: the number of different tokens for token inputs, else None.
        test_inputs, test_targets: the same for the test set, or None.

    Raises:
        InputError: A field is of another kind, or inputs and targets differ in number.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    outputs: int
    test_inputs: Tensor | None = None
    test_targets: Tensor | None = None
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        instance("name", self.name, str, "a name")
        whole("outputs", self.outputs, 1)
        if self.vocabulary is not None:
            whole("vocabulary", self.vocabulary, 1)
        if (self.test_inputs is None) != (self.test_targets is None):
            raise InputError("A data set has both test_inputs and test_targets, or neither.")
        for inputs, targets in (("inputs", "targets"), ("test_inputs", "test_targets")):
            if getattr(self, inputs) is None and inputs != "inputs":
                continue
            x, y = (instance(name, getattr(self, name), Tensor, "a tensor") for name in (inputs, targets))
            if not x.ndim or not y.ndim or len(x) != len(y):
                raise InputError(f"{inputs} {tuple(x.shape)} and {targets} {tuple(y.shape)} differ in their examples.")

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 digest (hex) of every array's dtype, shape and bytes."""
        digest = sha256()
        for array in (getattr(self, name) for name in _ARRAYS):
            if array is None:
                digest.update(b"none")
                continue
            values = array.detach().cpu().contiguous().numpy()
            digest.update(f"{values.dtype.str}{values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Dataset":
        """The same data in another floating dtype or on another device; indices stay int64.

        Raises:
            InputError: The dtype is not a floating one, or there is no such device here.
        """
        if dtype is not None:
            floating("dtype", dtype)
        arrays = {name: array for name in _ARRAYS if (array := getattr(self, name)) is not None}
        try:
            device = None if device is None else torch.zeros(0, device=device).device
        except (RuntimeError, TypeError, AssertionError) as error:  # AssertionError: torch without CUDA
            raise InputError(f"device must be one that is here, such as 'cpu', but it is {device!r}.") from error
        moved = {
            name: array.to(device=device, dtype=dtype if array.is_floating_point() else None)
            for name, array in arrays.items()
        }
        return replace(self, **moved)


@checked
def one_hot(indices: Tensor, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices ``(...)`` as one-hot rows ``(..., classes)``; ``IGNORE`` gives a row of zeros.

    Raises:
        InputError: An index is neither in 0..classes-1 nor ``IGNORE``.
    """
    instance("indices", indices, Tensor, "a tensor of whole numbers")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise InputError(f"indices must be whole numbers, but they are {indices.dtype}.")
    if indices.numel() and (int(indices.max()) >= classes or int(indices.min()) < IGNORE):
        raise InputError(f"Class indices must lie in 0..{classes - 1} (or be {IGNORE}, masked).")
    places = torch.arange(classes, device=indices.device)
    return (indices[..., None] == places).to(dtype)
