"""Networks by name and size, fitted to a data set's shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from gfm.errors import InputError, UnknownNameError

__all__ = ["SIZES", "Architecture", "available", "build", "register"]

SIZES = ("tiny", "book", "paper")
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


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

    Attributes:
        builder: makes the module.
        title: its name in figures.
        takes: "anything" (flattened), "images" ``(n, channels, height, width)`` or "tokens" ``(n, T)``.
        activation: whether the activation can be chosen.
        sizes: keyword arguments of the builder for "tiny" (tests, the smoke profile), "book" (a gradient in a
            few milliseconds) and "paper" (the central-flows paper's); none for a size that is left out.
    """

    builder: Callable[..., nn.Module]
    title: str
    takes: str
    activation: bool = True
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)


ARCHITECTURES: dict[str, Architecture] = {}


def register(name: str, title: str, takes: str, **entry: Any) -> Callable[[Builder], Builder]:
    """Decorator: enter a builder under a name; the other arguments are fields of :class:`Architecture`."""

    def enter(builder: Builder) -> Builder:
        ARCHITECTURES[name] = Architecture(builder, title, takes, **entry)
        return builder

    return enter


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
    settings = {**architecture.sizes.get(size, {}), **options}
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
