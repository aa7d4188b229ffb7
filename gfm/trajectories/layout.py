"""The tensors that make up a flat weight vector: their names, shapes and order."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from gfm.checks import counts, instance
from gfm.errors import InputError
from gfm.problem.flat import trainable

__all__ = ["Layout", "fitted", "in_module_order", "plain_dtype", "plain_names", "renamed", "shapes_in"]

_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
T = TypeVar("T")


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the tensors in a flat weight vector, in its order.

    Args:
        names: one per tensor, as in the module's or the file's state dict.
        shapes: one per name.
        tied: further names in the state dict, each with the first name of the same tensor.

    Raises:
        InputError: A name occurs twice, or there is not one shape for each.

    Example:
        >>> Layout.of(nn.Linear(2, 3))
        Layout(names=('weight', 'bias'), shapes=((3, 2), (3,)), tied={})
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    tied: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("names", "shapes"):
            instance(name, getattr(self, name), (tuple, list), "a tuple with one entry per tensor")
        instance("tied", self.tied, Mapping, "a mapping of names to names")
        for name in (*self.names, *self.tied, *self.tied.values()):
            instance("Each of names", name, str, "text")
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "shapes", tuple(counts("Each of shapes", shape, 0, math.inf) for shape in self.shapes))
        object.__setattr__(self, "tied", dict(self.tied))
        known = [*self.names, *self.tied]
        if len(self.names) != len(self.shapes) or len(set(known)) != len(known):
            raise InputError("A layout has one shape for each name, and every name once.")

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The layout of a module's trainable parameters, as in :class:`gfm.flat.Flat`.

        Raises:
            InputError: ``module`` is no module, is not yet initialised, or has no trainable parameters.
        """
        named = trainable(module)
        first: dict[int, str] = {}
        tied = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if first.setdefault(id(parameter), name) != name:
                tied[name] = first[id(parameter)]
        return cls(tuple(name for name, _ in named), tuple(tuple(q.shape) for _, q in named), tied)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of weights in each tensor."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def groups(self) -> tuple[str, ...]:
        """One label per weight: its tensor's name without the prefixes of wrappers."""
        plain = plain_names(self.names)
        return tuple(plain[name] for name, size in zip(self.names, self.sizes, strict=True) for _ in range(size))

    def same_as(self, other: "Layout") -> bool:
        """Whether both have the same tensors in the same order, apart from the prefixes of wrappers."""
        names, others = (list(plain_names(layout.names).values()) for layout in (self, other))
        return names == others and self.shapes == other.shapes


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the prefixes of ``torch.compile``, ``DataParallel`` and other wrappers.

    ``module.`` is a prefix only if all names have it.

    Raises:
        InputError: Two names become the same.
    """
    plain = {name: _WRAPPERS.sub("", name) for name in names}
    while plain and all(name.startswith("module.") for name in plain.values()):
        plain = {name: short.removeprefix("module.") for name, short in plain.items()}
    if len(set(plain.values())) < len(plain):
        raise InputError("Two tensors have the same name apart from the prefix of a wrapper (_orig_mod).")
    return plain


def renamed(found: Mapping[str, T], wanted: Collection[str]) -> dict[str, T]:
    """``found`` under the names in ``wanted``, which may differ in prefixes; names without a counterpart stay.

    If no name has a counterpart, a prefix that all names of one side share is removed (``model.`` of a Lightning
    module).
    """
    own, targets = plain_names(found), plain_names(wanted)
    if not set(own.values()) & set(targets.values()):
        short = _peeled(own, set(targets.values()))
        own, targets = (short, targets) if short else (own, _peeled(targets, set(own.values())) or targets)
    back = {plain: name for name, plain in targets.items()}
    return {back.get(own[name], name): value for name, value in found.items()}


def _peeled(names: dict[str, str], others: set[str]) -> dict[str, str] | None:
    """``names`` without the prefixes that they share, until one is among ``others``; None if that never happens."""
    while names and not set(names.values()) & others:
        heads = {plain.rpartition(".")[0] and plain.partition(".")[0] for plain in names.values()}
        if len(heads) > 1 or "" in heads or heads.pop().isdecimal():
            return None
        names = {name: plain.partition(".")[2] for name, plain in names.items()}
    return names or None


def fitted(
    state: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]], tied: Mapping[str, str], what: str, whose: str
) -> dict[str, Tensor]:
    """The tensors of ``state`` under the names that are ``wanted``, in their order.

    Args:
        state: tensors by name; names may differ from those wanted in prefixes.
        wanted: name -> shape.
        tied: further name -> wanted name of the same tensor; ``state`` may hold either or both.
        what: what ``state`` is, for messages.
        whose: what the names wanted belong to, for messages.

    Raises:
        InputError: A tensor is missing, is not wanted or has another shape, or tied ones have different values.
    """
    own = renamed(state, [*wanted, *tied])
    for name, first in tied.items():
        value = own.pop(name, None)
        if value is None:
            continue
        other = own.setdefault(first, value)
        if value.shape != other.shape or not (value == other).all():
            raise InputError(f"{name!r} and {first!r} differ in {what}, but are one tensor in {whose}.")
    for name in wanted:
        if name not in own:
            raise InputError(f"{what} has no tensor {name!r}, which {whose} has.")
    used = {id(own[name]) for name in wanted}
    for name, value in own.items():
        if name not in wanted:
            if id(value) in used:
                continue  # another name of the same tensor
            raise InputError(f"{what} has a tensor {name!r}, which {whose} does not have.")
        shape = tuple(wanted[name])
        if tuple(value.shape) != shape:
            raise InputError(f"{name!r} has the shape {tuple(value.shape)} in {what} and {shape} in {whose}.")
    return {name: own[name] for name in wanted}


def shapes_in(module: nn.Module, layout: Layout) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the state dict of ``module``, whose layout is ``layout``; a tied one occurs once.

    Raises:
        InputError: The state dict holds something else than tensors.
    """
    shapes = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(f"{name!r} in the module's state dict is of type {type(value).__name__}, not a tensor.")
        if name not in layout.tied:
            shapes[name] = tuple(value.shape)
    return shapes


def in_module_order(names: Sequence[str]) -> list[str] | None:
    """``names`` in the order in which a module lists them, or None if the names do not determine it.

    They do if layers are numbered and each has at most a ``weight`` and a ``bias``, registered in this order.
    """
    own = [name for name in names if "." not in name]
    inner = {head: [n.partition(".")[2] for n in group]
             for head, group in groupby(sorted(n for n in names if "." in n), lambda n: n.partition(".")[0])}
    out = []
    for heads in (own, list(inner)):
        numbered = all(head.isdecimal() for head in heads)
        if len(heads) > 1 and not numbered and set(heads) != {"weight", "bias"}:
            return None
        for head in sorted(heads, key=int if numbered else lambda head: head == "bias"):
            below = in_module_order(inner[head]) if heads is not own else [""]
            if below is None:
                return None
            out += [f"{head}.{rest}" if rest else head for rest in below]
    return out


def plain_dtype(value: Tensor) -> Tensor:
    """``value``, of any shape, in float32 if it has a floating dtype that NumPy lacks."""
    known = not value.is_floating_point() or value.dtype in (torch.float16, torch.float32, torch.float64)
    return value if known else value.float()
