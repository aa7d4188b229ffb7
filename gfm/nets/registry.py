"""Networks by name and size, fitted to a data set's shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gfm.errors import InputError, UnknownNameError
from gfm.nets.cnn import cnn
from gfm.nets.lstm import lstm
from gfm.nets.mamba import mamba
from gfm.nets.mlp import mlp
from gfm.nets.resnet import resnet
from gfm.nets.transformer import transformer
from gfm.nets.vit import vit

__all__ = ["SIZES", "Architecture", "available", "build"]

SIZES = ("tiny", "book", "paper")


class _Data(Protocol):
    """What ``build`` reads of a ``gfm.data.Dataset``."""

    @property
    def inputs(self) -> Tensor: ...

    @property
    def outputs(self) -> int: ...

    @property
    def vocabulary(self) -> int | None: ...


@dataclass(frozen=True)
class Architecture:
    """A builder with its sizes.

    takes: "anything" (flattened), "images" ``(n, channels, height, width)`` or "tokens" ``(n, T)``.
    activation: whether the activation can be chosen.
    sizes: keyword arguments of the builder for "tiny" (tests, the smoke profile), "book" (a
        gradient in a few milliseconds) and "paper" (the central-flows paper's).
    """

    builder: Callable[..., nn.Module]
    takes: str
    activation: bool = True
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)


def _mlp(
    input_shape: tuple[int, ...],
    outputs: int,
    activation: str = "gelu",
    *,
    hidden: tuple[int, ...] = (256, 256),
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> nn.Module:
    dims = (prod(input_shape), *hidden, outputs)
    return mlp(dims, activation, bias=bias, dtype=dtype, seed=seed)


ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        _mlp,
        "anything",
        sizes={
            "tiny": {"hidden": (8, 8)},
            "book": {"hidden": (32, 32)},
            "paper": {},
        },
    ),
    "cnn": Architecture(
        cnn,
        "images",
        sizes={
            "tiny": {"channels": (2, 4), "hidden": 8},
            "book": {"channels": (8, 16), "hidden": 32},
            "paper": {},
        },
    ),
    "resnet": Architecture(
        resnet,
        "images",
        sizes={
            "tiny": {"width": 2, "stages": (1, 1), "groups": 2, "pool": 4},
            "book": {"width": 4, "stages": (1, 1), "groups": 4, "pool": 2},
            "paper": {},
        },
    ),
    "vit": Architecture(
        vit,
        "images",
        sizes={
            "tiny": {"width": 8, "depth": 1, "heads": 2, "head_width": 4, "hidden": 8},
            "book": {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "hidden": 32},
            "paper": {},
        },
    ),
    "lstm": Architecture(
        lstm,
        "tokens",
        activation=False,
        sizes={"tiny": {"width": 6, "depth": 1}, "book": {"width": 16, "depth": 2}, "paper": {}},
    ),
    "transformer": Architecture(
        transformer,
        "tokens",
        sizes={
            "tiny": {"width": 8, "depth": 1, "heads": 2, "hidden": 8},
            "book": {"width": 16, "depth": 1, "heads": 2, "hidden": 32},
            "paper": {},
        },
    ),
    "mamba": Architecture(
        mamba,
        "tokens",
        activation=False,
        sizes={
            "tiny": {"width": 6, "depth": 1, "inner": 8, "state": 2, "kernel": 3, "rank": 2},
            "book": {"width": 24, "depth": 1, "inner": 32, "state": 4, "kernel": 4, "rank": 2},
            "paper": {},
        },
    ),
}


def available(takes: str | None = None) -> dict[str, Architecture]:
    """Names of the networks, with their architectures; ``takes`` "images" or "tokens" narrows.

    Networks that take anything count as networks for images.
    """
    kinds = {None: ("anything", "images", "tokens"), "images": ("anything", "images")}
    chosen = kinds.get(takes, (takes,))
    return {name: a for name, a in ARCHITECTURES.items() if a.takes in chosen}


def build(
    name: str,
    data: _Data | None = None,
    *,
    size: str = "book",
    activation: str | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    vocabulary: int | None = None,
    **options: Any,
) -> nn.Module:
    """The named network at a size, for a data set's shapes, with weights drawn from ``seed``.

    Shapes come from ``data`` (a ``gfm.data.Dataset``) or, without one, from ``input_shape`` (of
    one example, without n; ``(T,)`` for tokens), ``outputs`` and, for tokens, ``vocabulary``.
    activation: by default the builder's own. dtype: by default that of ``data``'s floating
    inputs, else float32. options: keyword arguments of the builder, over those of ``size``.

    Raises:
        UnknownNameError: unknown network, size, activation or option.
        InputError: missing shapes, inputs that the network cannot take, an activation for a
            network that has none to choose, or sizes that do not fit the inputs.
    """
    if name not in ARCHITECTURES:
        raise UnknownNameError(
            f"Unknown network {name!r}: choose one of {', '.join(ARCHITECTURES)}."
        )
    if size not in SIZES:
        raise UnknownNameError(f"Unknown size {size!r}: choose one of {', '.join(SIZES)}.")
    architecture = ARCHITECTURES[name]
    if data is not None:
        input_shape = input_shape or tuple(data.inputs.shape[1:])
        outputs = outputs or data.outputs
        vocabulary = vocabulary or data.vocabulary
        if dtype is None and data.inputs.is_floating_point():
            dtype = data.inputs.dtype
    if input_shape is None or outputs is None:
        raise InputError(f"To build {name!r}, give a data set, or input_shape and outputs.")
    arguments = _shapes(name, architecture.takes, tuple(input_shape), outputs, vocabulary)
    if activation is not None:
        if not architecture.activation:
            raise InputError(f"The network {name!r} has no activation to choose: leave it out.")
        arguments["activation"] = activation
    allowed = set(architecture.builder.__kwdefaults__ or {}) - {"seed", "dtype"}
    for option in options:
        if option not in allowed:
            raise UnknownNameError(
                f"The network {name!r} has no option {option!r}: choose among "
                f"{', '.join(sorted(allowed))}."
            )
    settings = {**architecture.sizes[size], **options}
    if name == "transformer":
        settings.setdefault("steps", input_shape[0])
    return architecture.builder(**arguments, **settings, dtype=dtype or torch.float32, seed=seed)


def _shapes(
    name: str, takes: str, input_shape: tuple[int, ...], outputs: int, vocabulary: int | None
) -> dict[str, Any]:
    if takes == "tokens":
        if vocabulary is None or len(input_shape) != 1:
            raise InputError(
                f"The network {name!r} takes tokens (n, T) with a vocabulary, not inputs of shape "
                f"(n, {', '.join(map(str, input_shape))})."
            )
        return {"vocabulary": vocabulary, "outputs": outputs}
    if vocabulary is not None:
        raise InputError(f"The network {name!r} does not take tokens.")
    if takes == "images" and len(input_shape) != 3:
        raise InputError(
            f"The network {name!r} takes images (n, channels, height, width), not inputs of shape "
            f"(n, {', '.join(map(str, input_shape))})."
        )
    return {"input_shape": input_shape, "outputs": outputs}
