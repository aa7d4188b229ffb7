"""Networks by name and size, fitted to a data set's shapes.

A network is registered where it is defined, by :func:`network`, and imported in ``gfm/nets/__init__.py``.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from gfm.checks import annotated, counts, known
from gfm.errors import InputError
from gfm.nets.seeding import Network

__all__ = ["SIZES", "Architecture", "available", "build", "network"]

SIZES = ("tiny", "book", "paper")


class _Shaped(Protocol):
    """The shapes of a data set."""

    @property
    def inputs(self) -> torch.Tensor:
        """(n, ...)."""

    @property
    def outputs(self) -> int:
        """Number of outputs of a network for it."""

    @property
    def vocabulary(self) -> int | None:
        """Number of different tokens, if the inputs are tokens."""


_NETWORKS: "dict[str, Architecture]" = {}


@dataclass(frozen=True)
class Architecture:
    """A builder with its sizes.

    Attributes:
        title: its name in figures.
        takes: "anything" (flattened), "images" ``(n, channels, height, width)`` or "tokens" ``(n, T)``.
        sizes: keyword arguments of the builder for "tiny" (tests, the smoke profile), "book" (a
            gradient takes a few milliseconds) and "paper" (as in the central-flows paper).
    """

    builder: Callable[..., nn.Module]
    title: str
    takes: str
    sizes: dict[str, dict[str, Any]]

    def keywords(self) -> list[str]:
        """The builder's own keywords, other than shapes, activation, dtype and seed."""
        parameters = inspect.signature(self.builder).parameters.values()
        return sorted(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("dtype", "seed"))


def network(
    name: str, *, title: str, takes: str, tiny: dict[str, Any], book: dict[str, Any]
) -> Callable[[Callable[..., Network]], Callable[..., Network]]:
    """A decorator that registers a builder under ``name``; its defaults are the size "paper".

    The builder's positional arguments are ``input_shape`` (``vocabulary`` if it takes tokens), ``outputs`` and
    ``activation`` (if it can be chosen); its keywords are the sizes and those of :func:`seeded`.
    """

    def register(builder: Callable[..., Network]) -> Callable[..., Network]:
        _NETWORKS[name] = Architecture(builder, title, takes, {"tiny": tiny, "book": book, "paper": {}})
        return builder

    return register


def available(takes: str | None = None) -> dict[str, Architecture]:
    """The networks by name; if ``takes`` is "images" or "tokens", only those for such inputs.

    Networks that take anything count as networks for images.
    """
    kinds = {None: ("anything", "images", "tokens"), "images": ("anything", "images")}
    chosen = kinds.get(takes, (takes,))
    return {name: a for name, a in _NETWORKS.items() if a.takes in chosen}


def build(
    name: str, data: _Shaped | None = None, *, size: str = "book", activation: str | None = None,
    dtype: torch.dtype | None = None, seed: int = 0, input_shape: tuple[int, ...] | None = None,
    outputs: int | None = None, vocabulary: int | None = None, **options: Any,
) -> nn.Module:
    """The named network at a size, for a data set's shapes, with weights drawn from ``seed``.

    Shapes come from ``data`` or, without it, from ``input_shape`` (of one example, without n; ``(T,)`` for tokens),
    ``outputs`` and, for tokens, ``vocabulary``.

    Args:
        name: one of ``available()``.
        data: a data set that determines the network's shapes.
        size: "tiny", "book" or "paper".
        activation: a name in ``ACTIVATIONS``; by default the builder's own.
        dtype: by default that of ``data``'s floating inputs, else float32.
        seed: of the initial weights.
        input_shape: shape of one example, overriding that of ``data``.
        outputs: number of outputs, overriding that of ``data``.
        vocabulary: number of different tokens, overriding that of ``data``.
        options: keyword arguments of the builder, overriding those of ``size``.

    Raises:
        UnknownNameError: The network, size, activation or an option is unknown.
        InputError: Shapes are missing, the network cannot take the inputs, an activation is given for a network
            that has no choice of one, or sizes do not fit the inputs.
    """
    known("network", name, _NETWORKS)
    known("size", size, SIZES)
    architecture = _NETWORKS[name]
    if data is not None:
        if not hasattr(data, "inputs") or not hasattr(data, "outputs"):
            raise InputError(f"data must be a data set, but it is {data!r}.")
        input_shape = input_shape or tuple(data.inputs.shape[1:])
        outputs = outputs or data.outputs
        vocabulary = vocabulary or data.vocabulary
        if dtype is None and data.inputs.is_floating_point():
            dtype = data.inputs.dtype
    if input_shape is None or outputs is None:
        raise InputError(f"To build {name!r}, give a data set, or input_shape and outputs.")
    input_shape = counts("input_shape", input_shape)
    _check_shapes(name, architecture.takes, input_shape, vocabulary)
    shapes = {"vocabulary": vocabulary} if architecture.takes == "tokens" else {"input_shape": input_shape}
    settings: dict[str, Any] = {**shapes, "outputs": outputs, **architecture.sizes[size], **options}
    if activation is not None:
        if "activation" not in inspect.signature(architecture.builder).parameters:
            raise InputError(f"The network {name!r} has no activation to choose: leave it out.")
        settings["activation"] = activation
    keywords = architecture.keywords()
    for option in options:
        known(f"{name} option", option, keywords)
    annotated(inspect.signature(architecture.builder), settings)
    if "steps" in keywords:  # the longest sequence that the network can take
        settings.setdefault("steps", input_shape[0])
    return architecture.builder(**settings, dtype=torch.float32 if dtype is None else dtype, seed=seed)


def _check_shapes(name: str, takes: str, input_shape: tuple[int, ...], vocabulary: int | None) -> None:
    shape = f"(n, {', '.join(map(str, input_shape))})"
    if takes == "tokens" and (vocabulary is None or len(input_shape) != 1):
        raise InputError(f"The network {name!r} takes tokens (n, T) with a vocabulary, not inputs of shape {shape}.")
    if takes != "tokens" and vocabulary is not None:
        raise InputError(f"The network {name!r} does not take tokens.")
    if takes == "images" and len(input_shape) != 3:
        raise InputError(
            f"The network {name!r} takes images (n, channels, height, width), not inputs of shape {shape}."
        )
