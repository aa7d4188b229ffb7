"""A network's weights as the edges of a graph between its neurons (channels, for convolutions)."""

import numpy as np
from torch import nn

from gfm.checks import instance

__all__ = ["edges_of"]

# Layers that treat channels separately, so that neurons keep their order.
_PASSING = (
    nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.AvgPool2d, nn.MaxPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU,
    nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus,
)  # fmt: skip


def edges_of(module: nn.Module) -> list[list[int]] | None:
    """(from, to) neuron numbers of every weight, in the order of the flat weight vector.

    This works for stacks of linear layers, and for ``nn.Sequential`` stacks that also contain 2d convolutions,
    activations, pooling and ``nn.Flatten``. A convolution's neurons are its channels: each weight (o, i, y, x) is
    an edge from input channel i to output channel o. After flattening, a feature belongs to the channel
    that it came from. A bias is an edge from a neuron of its own to the neuron that it shifts.

    Returns:
        None for any other module: one with weights elsewhere, with grouped or transposed convolutions, or whose
        layers do not fit together in the order in which the module lists them.
    """
    layers = _layers(instance("module", module, nn.Module, "a torch.nn.Module"))
    if not layers:
        return None
    edges: list[np.ndarray] = []
    before, width, free = 0, _inputs(layers[0]), _inputs(layers[0])
    for layer in layers:
        features, outputs = _inputs(layer), len(layer.weight)
        if features % width or (features != width and isinstance(layer, nn.Conv2d)):
            return None
        taps = layer.weight[0, 0].numel()  # 1 for a linear layer
        source = before + np.arange(features) // (features // width)
        target = free + np.arange(outputs)
        edges.append(np.stack([
            np.tile(np.repeat(source, taps), outputs),
            np.repeat(target, features * taps),
        ], axis=1))
        before, width, free = free, outputs, free + outputs
        if layer.bias is not None:
            edges.append(np.stack([np.full(outputs, free), target], axis=1))
        free += 1  # the bias's neuron; unused if there is no bias
    return np.concatenate(edges).tolist()


def _layers(module: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The layers with weights, in order; none if the order or the weights cannot be determined."""
    parts = [part for part in module.modules() if not list(part.children())]
    layers = [part for part in parts if isinstance(part, (nn.Linear, nn.Conv2d))]
    convolves = any(isinstance(part, nn.Conv2d) for part in layers)
    known = all(isinstance(part, (nn.Linear, nn.Conv2d, *_PASSING)) for part in parts)
    sequential = all(isinstance(part, nn.Sequential) for part in module.modules() if list(part.children()))
    if convolves and not (known and sequential):
        return []
    if any(isinstance(part, nn.Conv2d) and part.groups != 1 for part in layers):
        return []
    held = sum(p.numel() for layer in layers for p in layer.parameters())
    return layers if held == sum(p.numel() for p in module.parameters()) else []


def _inputs(layer: nn.Linear | nn.Conv2d) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
