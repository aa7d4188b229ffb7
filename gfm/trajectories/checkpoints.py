"""Trajectories from a folder of checkpoints saved during one training run."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gfm.checks import instance, one_of, place
from gfm.errors import InputError
from gfm.trajectories.finding import find
from gfm.trajectories.layout import Layout, fitted, in_module_order, plain_dtype, renamed, shapes_in
from gfm.trajectories.saved import Saved, open_saved
from gfm.trajectories.trajectories import Trajectories

__all__ = ["read_checkpoints"]

_BUFFER = re.compile(
    r"(^|\.)(running_mean|running_var|num_batches_tracked|inv_freq)$|(^|\.)parametrizations\..*\._[uv]$"
)
_NAMED = re.compile(r"(weight|bias)[^.]*$")


def read_checkpoints(
    folder: str | Path, pattern: str = "*", *, step: str | None = None, key: str | None = None,
    module: nn.Module | None = None, order: str | None = None,
) -> Trajectories:
    r"""One run from the checkpoints in ``folder``, in the order of their steps.

    **Files.** A checkpoint is a file (``.pt``, ``.pth``, ``.ckpt``, ``.bin``, ``.safetensors``) or a folder that
    holds one (``checkpoint-500/model.safetensors``), also in shards with their index. It is read without running any
    code in it. The state dict may lie in a mapping, under one of the usual keys (``"model_state_dict"``,
    ``"state_dict"``, ``"model"``, ...). The state of an optimizer, a scheduler or a random generator beside it is
    left out, and so are copies such as ``last.ckpt`` or ``best.pt``; ``meta["left out"]`` names them.

    **Steps.** The step is the number in the name after a word for steps, then checkpoints, then epochs; without such
    a word it is the only number that differs between the names. Dates, decimals, hashes, versions (``-v1``), losses
    and seeds are no steps. Names that are still ambiguous are refused.

    **Tensors.** Weights are floating point; those of fewer than 32 bits become float32. The order of the flat vector
    is that of ``module``, if it is given, or of the files. Tensors under several names count once. Buffers (and frozen
    parameters, if ``module`` is given) are carried along in ``buffers``; ``meta["carried along"]`` names them. Without
    ``module`` these are tensors of whole numbers, single numbers without an axis, masks of zeros and infinities, those
    known by their names, such as ``running_mean``, and those that are equal in all checkpoints while others change,
    unless their names are those of a weight or (with one axis) a bias. Numbers and words among the tensors are ignored.
    Prefixes of wrappers (``module.``, ``_orig_mod.``) make no difference.

    Args:
        folder: contains the checkpoints.
        pattern: glob pattern of paths below ``folder``, such as ``"*.pt"`` or ``"*/model.safetensors"``.
        step: regular expression whose one group is the step, such as ``r"it(\d+)"``, searched in the paths.
        key: where the state dict is in each file, if it is in an unusual place or there are several.
        module: a network whose state dict was saved; it determines names, order, shapes, buffers and tied tensors.
        order: ``"file"`` takes the order of the files even if they do not keep that of the state dict
            (``.safetensors``). Without it such files are read only if the numbers of layers, and weights before biases,
            determine the order; ``meta["order"]`` is then ``"names"``, otherwise ``"file"``. A module may register its
            tensors in yet another order: only ``module`` makes sure that flat vectors are the module's.

    Returns:
        One run, with a layout, so that :meth:`Trajectories.state_dict` and :meth:`Trajectories.load_into` lead back.

    Raises:
        UnreadableFileError: The folder is missing, or a file is incomplete or holds no state dict.
        InputError: There are fewer than two checkpoints, names are ambiguous, two have the same step, they differ in
            their tensors or do not fit ``module``, or hold tensors that cannot be weights (complex, sparse, NaN,
            quantized).
    """
    if order is not None:
        one_of("order", order, ("file",))
    instance("pattern", pattern, str, "a glob pattern")
    if key is not None:
        instance("key", key, str, "the name of an entry")
    found = find(place("folder", folder), pattern, step)
    reference: _Reference | None = None
    if module is not None:
        layout = Layout.of(module)
        reference = _Reference(layout, shapes_in(module, layout), "the module")
    vectors: list[np.ndarray] = []
    carried: dict[str, list[np.ndarray]] = {}
    for file in found.files:
        saved = open_saved(file, key)
        if reference is None:
            reference = _of_file(saved, order)
        state = fitted(saved.tensors, reference.shapes, reference.layout.tied, saved.name, reference.whose)
        vectors.append(_vector(state, reference.layout.names, saved.name))
        for name in state.keys() - set(reference.layout.names):
            values, new = carried.setdefault(name, []), plain_dtype(state[name]).numpy()
            same = bool(values) and values[-1].dtype == new.dtype and np.array_equal(values[-1], new)
            if values and not same and module is None and new.dtype.kind in "iu" and new.size > 1 and "weight" in name:
                raise InputError(f"{name!r} in {saved.name} holds weights as whole numbers; save them as floating "
                                 "point, or, if the tensor is a buffer, give the module (module=).")
            values.append(values[-1] if same else new)
    assert reference is not None
    layout, weights = reference.layout, np.stack(vectors)
    if module is None:
        layout, weights, constant = _changing(layout, weights)
        carried |= constant
        # use the names in the last file
        own = renamed({name: name for name in [*saved.tensors, *saved.tied]}, [*reference.shapes, *layout.tied])
        layout = Layout(tuple(own[name] for name in layout.names), layout.shapes,
                        {own.get(name, name): own[first] for name, first in layout.tied.items()})
        carried = {own[name]: values for name, values in carried.items()}
    meta: dict[str, Any] = {"checkpoints": len(found.files)}
    if found.left_out:
        meta["left out"] = list(found.left_out)
    if reference.order:
        meta["order"] = reference.order
    if carried:
        meta["carried along"] = sorted(carried)
    buffers = {name: _stacked(carried[name]) for name in sorted(carried)}
    return Trajectories(weights[None], np.array(found.steps), None, meta, layout=layout, buffers=buffers)


# -- one state -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Reference:
    """What every checkpoint must contain: the weights' layout, and the shapes of all its tensors by name."""

    layout: Layout
    shapes: dict[str, tuple[int, ...]]
    whose: str
    order: str | None = None  # how tensors were ordered, 'file' or 'names', if that may differ from the module's order


def _of_file(saved: Saved, order: str | None) -> _Reference:
    shapes = {name: tuple(value.shape) for name, value in saved.tensors.items() if name not in saved.tied}
    names = [name for name in shapes if _is_weight(name, saved)]
    if not names:
        raise InputError(f"{saved.name} holds no weights: its tensors ({len(shapes)}) are whole numbers or buffers.")
    by = None
    if not saved.ordered and len(names) > 1:
        told = in_module_order(names)
        if told is None and order is None:
            raise InputError(
                f"{saved.name} does not keep the order of the module's tensors: give the module (module=), or "
                "order='file' if you go by their names."
            )
        names, by = (names, "file") if told is None else (told, "names")
    layout = Layout(tuple(names), tuple(shapes[name] for name in names), saved.tied)
    return _Reference(layout, shapes, saved.name, by)


def _changing(layout: Layout, weights: np.ndarray) -> tuple[Layout, np.ndarray, dict[str, list[np.ndarray]]]:
    """Layout and weights (states, parameters) without constant tensors, and the constant tensors, once for each state.

    A weight may be constant too: tensors named like weights are kept, and all are if nothing changes at all.
    """
    parts = dict(zip(layout.names, np.split(weights, np.cumsum(layout.sizes)[:-1], axis=1), strict=True))
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    still = {name for name, part in parts.items() if (part == part[0]).all()}
    kept = [name for name, shape in shapes.items() if name not in still or _NAMED.search(name)
            and ("weight" in name.rpartition(".")[2] or len(shape) == 1)]
    if len(still) == len(parts) or len(kept) == len(parts):
        return layout, weights, {}
    constant = {name: [parts[name][0].reshape(shapes[name])] * len(weights) for name in parts if name not in kept}
    return (Layout(tuple(kept), tuple(shapes[name] for name in kept), layout.tied),
            np.concatenate([parts[name] for name in kept], axis=1), constant)


def _is_weight(name: str, saved: Saved) -> bool:
    value = saved.tensors[name]
    spectral = name.endswith(("_u", "_v")) and f"{name[:-2]}_orig" in saved.tensors
    if not value.is_floating_point() or value.numel() == 0 or value.ndim == 0 or spectral or _BUFFER.search(name):
        return False
    infinite = plain_dtype(value).isinf()
    return not (infinite.any() and (infinite | (value == 0)).all())  # an attention mask


def _vector(state: Mapping[str, Tensor], names: Iterable[str], what: str) -> np.ndarray:
    """The flat weight vector of a state."""
    weights = [(name, state[name]) for name in names]
    for name, value in weights:
        if not value.is_floating_point():
            raise InputError(f"{name!r} in {what} is {value.dtype}, but weights are floating point.")
        if not plain_dtype(value).isfinite().all():
            raise InputError(
                f"{name!r} in {what} holds numbers that are not finite; leave the file out with pattern=, or, if the "
                "tensor is a buffer, give the module (module=)."
            )
    double = any(value.dtype == torch.float64 for _, value in weights)
    return torch.cat([value.flatten().to(torch.float64 if double else torch.float32) for _, value in weights]).numpy()


def _stacked(values: list[np.ndarray]) -> np.ndarray:
    """(1, states, ...); a view of one array if all states share it."""
    if all(value is values[0] for value in values):
        return np.broadcast_to(values[0], (1, len(values), *values[0].shape))
    return np.stack(values)[None]
