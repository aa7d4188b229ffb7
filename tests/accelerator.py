"""A pretended accelerator: tensors that say they lie on another device, and are computed on the processor.

Its tensors wrap ordinary ones. As on a real accelerator, an operation on tensors of both devices fails, numbers come
back only where they are fetched, and what is fetched is counted. Importing this registers the device ``pretended``
with torch, for the whole process, so that tests that use it have a process of their own.
"""

from collections import Counter
from functools import cache
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_map

FETCHED: Counter[str] = Counter()
"""How often a number and a tensor were fetched from the device."""


class _Backend(backend_registration._DummyBackendModule):
    def get_rng_state(self, device=None) -> torch.Tensor:
        return torch.empty(0)

    def set_rng_state(self, state, device=None) -> None:
        pass


backend_registration._setup_privateuseone_for_python_backend("pretended", _Backend())
DEVICE = torch.device("pretended:0")
_MIXED = (torch.ops.aten.copy_, torch.ops.aten._to_copy)  # from one device to the other
_INDEXED = (torch.ops.aten.index, torch.ops.aten.index_put_, torch.ops.aten.index_put)  # by indices on the processor


class Remote(torch.Tensor):
    """A tensor of the pretended device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False)
        made.inner = inner
        return made

    def __repr__(self, **_) -> str:
        return f"Remote({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs, what = dict(kwargs or {}), func.overloadpacket
        indices = args[1] if what in _INDEXED else ()
        own = [_inner(value, func, what in _MIXED, indices) for value in args]
        options = {name: _inner(value, func, what in _MIXED, indices) for name, value in kwargs.items()}
        asked = options.get("device")
        home = asked is not None and torch.device(asked).type != DEVICE.type
        if asked is not None:
            options["device"] = torch.device("cpu")
        options.pop("non_blocking", None)
        out = func(*own, **options)
        if what is torch.ops.aten._local_scalar_dense:
            FETCHED["number"] += 1
        if home or what is torch.ops.aten.copy_ and type(args[0]) is not Remote:
            FETCHED["tensor"] += 1
            return out
        if isinstance(out, torch.Tensor):
            if _changes(func):
                given = zip((*args, *kwargs.values()), (*own, *options.values()), strict=True)
                return next(a for a, o in given if o is out)
            return Remote(out)
        return tree_map(lambda v: Remote(v) if isinstance(v, torch.Tensor) else v, out)


@cache
def _changes(func: torch._ops.OpOverload) -> bool:
    """Whether an operation writes into its arguments."""
    return func._schema.is_mutable


def _inner(value: Any, func: Any, mixed: bool, indices: Any) -> Any:
    """An argument with the tensors that it stands for; those of the processor are refused, unless they are numbers."""
    if type(value) is Remote:
        return value.inner
    if isinstance(value, (list, tuple)):
        return [_inner(part, func, mixed, indices) for part in value]
    if isinstance(value, torch.Tensor) and value.ndim and not mixed and not any(value is index for index in indices):
        raise RuntimeError(f"{func}: a tensor of shape {tuple(value.shape)} lies on the processor")
    return value


def _made(operator: torch._ops.OpOverload):
    def kernel(*sizes, device=None, pin_memory=None, layout=None, **options):
        return Remote(operator(*sizes, device="cpu", **options))

    return kernel


def _copy_from(source, target, non_blocking=False):
    FETCHED["tensor"] += not isinstance(target, Remote)
    inner = [v.inner if isinstance(v, Remote) else v for v in (target, source)]
    inner[0].copy_(inner[1])
    return target


_KERNELS = torch.library.Library("aten", "IMPL")
_KERNELS.impl("_copy_from", _copy_from, "PrivateUse1")
for _name in ("empty.memory_format", "empty_strided", "linspace", "arange.start_step", "arange.start", "arange", "eye"):
    _operator = getattr(torch.ops.aten, _name.partition(".")[0])
    _KERNELS.impl(_name, _made(getattr(_operator, _name.partition(".")[2] or "default")), "PrivateUse1")
