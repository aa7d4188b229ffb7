"""Hessian-vector products of a feed-forward network that reuse everything independent of the vector.

For a network z_i = W_i a_{i-1} + b_i, a_i = phi_i(z_i) the derivative of the gradient along v takes one
forward and one backward sweep (Pearlmutter's operator R is the derivative along v). The activations a, the
slopes phi'(z), the backward signals and their products with phi''(z) are the same for every v. They are computed
once for each w, so that a product costs little more than its matrix products. Other modules use their kept graph
(``gfm.problem.derivatives``).

Source: Pearlmutter (1994), Neural Computation 6(1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["FeedForward", "FeedForwardProducts"]

#: Elementwise layers. Modules with any other layer, except linear ones, are not handled here.
_ELEMENTWISE = (nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Identity)


@dataclass(frozen=True)
class FeedForward:
    """A module as a list of linear layers, each with the activations that follow it.

    Attributes:
        stages: (linear layer, elementwise modules after it), first to last.
    """

    stages: tuple[tuple[nn.Linear, tuple[nn.Module, ...]], ...]

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor) -> FeedForward | None:
        """The module as such a list, or None if that is impossible.

        It is impossible if the module has other layers, tied or frozen weights, or hooks, or if its first layer
        does not receive ``inputs`` (n, ...) as one row per example.
        """
        if type(module) is not nn.Sequential:
            return None
        layers = list(module)
        if layers and type(layers[0]) is nn.Flatten and (layers[0].start_dim, layers[0].end_dim) == (1, -1):
            layers = layers[1:]
        elif inputs.ndim != 2:
            return None
        stages: list[tuple[nn.Linear, tuple[nn.Module, ...]]] = []
        for layer in layers:
            if type(layer) is nn.Linear:
                stages.append((layer, ()))
            elif type(layer) in _ELEMENTWISE and stages:
                stages[-1] = (stages[-1][0], (*stages[-1][1], layer))
            else:
                return None
        weights = [p for linear, _ in stages for p in linear.parameters()]
        hooked = any(
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or "forward" in vars(m)
            for m in module.modules()
        )
        own = len({id(p) for p in weights}) == len(weights) and all(p.requires_grad for p in weights)
        return cls(tuple(stages)) if stages and own and not hooked else None

    def parts(self, w: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Views of every layer's (weight, bias) in a vector (p,) that follows the module's order of parameters."""
        parts = iter(w.split([q.numel() for linear, _ in self.stages for q in linear.parameters()]))
        return [(next(parts).view(linear.weight.shape), None if linear.bias is None else next(parts))
                for linear, _ in self.stages]


@dataclass
class _Kept:
    """What a product needs from one layer; R is the derivative along v.

    The last three fields are overwritten by each product: allocating new memory of this size would cost as much as
    half a matrix product.
    """

    weight: Tensor
    inputs: Tensor  # a_{i-1}, (n, columns)
    slope: Tensor | None  # phi'(z), (n, rows); None if no activation follows the layer
    bend: Tensor | None  # dL/da * phi''(z), (n, rows)
    signal: Tensor  # dL/dz, (n, rows)
    Rz: Tensor  # (n, rows)
    Ra: Tensor  # (n, rows); is Rz if no activation follows the layer
    Rback: Tensor | None  # R of dL/da_{i-1}, (n, columns); None for the first layer


class FeedForwardProducts:
    """Products with the Hessian of the mean loss of a feed-forward network at ``w`` (p,).

    Args:
        network: the module's layers.
        w: (p,) weights.
        inputs: (n, ...).
        targets: as the loss takes them.
        loss: (outputs, targets) -> scalar or per-example values, as in ``gfm.problem.losses``.
    """

    def __init__(
        self, network: FeedForward, w: Tensor, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ):
        self.network = network
        layers: list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]] = []
        a = inputs.flatten(1)
        for (weight, bias), (_, activations) in zip(network.parts(w.detach()), network.stages, strict=True):
            before = a
            a, slope, bend = _elementwise(activations, torch.nn.functional.linear(before, weight, bias))
            layers.append((weight, before, slope, bend))
        self._outputs = a.requires_grad_()
        value = loss(self._outputs, targets).mean()
        (self._signal,) = torch.autograd.grad(value, self._outputs, create_graph=True)
        signal = self._signal.detach()
        self.kept: list[_Kept] = []
        for i, (weight, before, slope, bend) in reversed(list(enumerate(layers))):
            if bend is not None:
                bend.mul_(signal)
            if slope is not None:
                signal = signal * slope
            Rz = _room(signal)
            Ra = Rz if slope is None else _room(signal)
            Rback = torch.empty_like(before) if i else None
            self.kept.append(_Kept(weight, before, slope, bend, signal, Rz, Ra, Rback))
            if i:
                signal = signal @ weight
        self.kept.reverse()

    def __call__(self, v: Tensor, out: Tensor | None = None) -> Tensor:
        """H v for one vector (p,), written into ``out`` (p,) if given."""
        directions = self.network.parts(v)
        Ra = None
        for kept, (weight, bias) in zip(self.kept, directions, strict=True):
            if bias is None:
                torch.mm(kept.inputs, weight.T, out=kept.Rz)
            else:
                torch.addmm(bias, kept.inputs, weight.T, out=kept.Rz)
            if Ra is not None:
                kept.Rz.addmm_(Ra, kept.weight.T)
            Ra = kept.Ra if kept.slope is None else torch.mul(kept.Rz, kept.slope, out=kept.Ra)
        assert Ra is not None  # there is a layer
        Rback = self._of_the_loss(Ra)
        out = torch.empty_like(v) if out is None else out
        results = self.network.parts(out)
        for i in reversed(range(len(self.kept))):
            kept, (weight, bias) = self.kept[i], results[i]
            if kept.slope is not None and kept.bend is not None:
                Rback = Rback.mul_(kept.slope).addcmul_(kept.bend, kept.Rz)
            torch.mm(Rback.T, kept.inputs, out=weight)
            if i:
                weight.addmm_(kept.signal.T, self.kept[i - 1].Ra)
            if bias is not None:
                torch.sum(Rback, 0, out=bias)
            if i:
                Rback = torch.mm(kept.signal, directions[i][0], out=kept.Rback).addmm_(Rback, kept.weight)
        return out

    def _of_the_loss(self, Ra: Tensor) -> Tensor:
        """The loss's Hessian with respect to the outputs, times their derivative along v."""
        if not self._signal.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(Ra)
        return torch.autograd.grad(self._signal, self._outputs, Ra, retain_graph=True, materialize_grads=True)[0]


def _room(like: Tensor) -> Tensor:
    """Uninitialised memory of that shape; column-major for few columns, where matrix products are twice as fast."""
    if like.shape[1] > 32:
        return torch.empty_like(like)
    return torch.empty_like(like.T, memory_format=torch.contiguous_format).T


def _elementwise(modules: tuple[nn.Module, ...], z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """phi(z), phi'(z), phi''(z) of a chain of modules, without a graph; None for the derivatives if it is empty."""
    if not modules:
        return z, None, None
    z = z.detach().requires_grad_()
    a = z
    for module in modules:
        a = module(a)
    (slope,) = torch.autograd.grad(a.sum(), z, create_graph=True)
    if not slope.requires_grad:  # phi is linear
        return a.detach(), slope.detach(), torch.zeros_like(z)
    (bend,) = torch.autograd.grad(slope.sum(), z)
    return a.detach(), slope.detach(), bend
