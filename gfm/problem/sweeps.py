"""Derivatives up to the third of a feed-forward network's loss, by sweeps that take all directions at once.

For a network z_i = W_i a_{i-1} + b_i, a_i = phi_i(z_i) with the signals g_i = dL/da_i and s_i = dL/dz_i, the gradient
with respect to W_i is s_i^T a_{i-1}. Both sweeps are differentiated: along u (names with R) for Hessian products, and
along u and v (names with T) for third derivatives. Directions are the first axis of these tensors, so that a sweep
launches as many operations for many directions as for one; backward passes through a kept graph
(``gfm.problem.derivatives``) launch several times as many.

Source: Pearlmutter (1994), Neural Computation 6(1), for R; the second derivative is the same operator once more.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gfm.problem.feed_forward import FeedForward
from gfm.problem.losses import Loss
from gfm.problem.output_derivatives import output_derivatives

__all__ = ["Sweeps", "Swept"]


@dataclass
class _Layer:
    """One layer at w; without an activation after it the three derivatives of phi are None."""

    weight: Tensor  # (rows, columns)
    inputs: Tensor  # a_{i-1}, (n, columns)
    slope: Tensor | None  # phi'(z), (n, rows)
    bend: Tensor | None  # phi''(z)
    curl: Tensor | None  # phi'''(z)
    back: Tensor  # g = dL/da, (n, rows)
    bent: Tensor | None  # phi''(z) g
    signal: Tensor  # s = dL/dz, (n, rows)


@dataclass
class _Along:
    """The derivatives of one layer along k directions; those of its inputs are None for the first layer."""

    weight: Tensor  # the directions' part, (k, rows, columns)
    Rinputs: Tensor | None  # (k, n, columns)
    Rz: Tensor  # (k, n, rows)
    Rback: Tensor
    Rsignal: Tensor


class Sweeps:
    """The mean loss of a feed-forward network near ``w`` (p,).

    Args:
        network: the module's layers.
        w: (p,) weights.
        inputs: (n, ...).
        targets: as the loss takes them.
        loss: one whose derivatives are known in closed form (``gfm.problem.output_derivatives``).

    Attributes:
        value: 0-d loss.
        gradient: (p,).
    """

    def __init__(self, network: FeedForward, w: Tensor, inputs: Tensor, targets: Tensor, loss: Loss):
        self.network, self.layers = network, list[_Layer]()
        a = inputs.flatten(1)
        forward = []
        for (weight, bias), (_, activations) in zip(network.parts(w), network.stages, strict=True):
            before = a
            a, slope, bend, curl = _elementwise(activations, nn.functional.linear(before, weight, bias))
            forward.append((weight, bias, before, slope, bend, curl))
        self.outputs = output_derivatives(loss, a, targets)
        back, parts = self.outputs.slope, list[Tensor]()
        for weight, bias, before, slope, bend, curl in reversed(forward):
            signal = back if slope is None else back * slope
            bent = None if bend is None else bend * back
            self.layers.insert(0, _Layer(weight, before, slope, bend, curl, back, bent, signal))
            parts[:0] = [(signal.T @ before).flatten(), *([] if bias is None else [signal.sum(0)])]
            back = signal @ weight
        self.value, self.gradient = self.outputs.value, torch.cat(parts)

    @property
    def largest(self) -> int:
        """Bytes of the largest tensor (n, rows) of a layer."""
        return max(layer.signal.nbytes for layer in self.layers)

    def along(self, U: Tensor) -> "Swept":
        """The derivatives along rows U (k, p)."""
        return Swept(self, U)


class Swept:
    """Derivatives of the gradient along directions.

    Attributes:
        image: (k, p) H u for each direction.
    """

    def __init__(self, at: Sweeps, U: Tensor):
        self.at, self.layers = at, list[_Along]()
        directions = at.network.parts_of_rows(U)
        Ra: Tensor | None = None
        forward: list[tuple[Tensor | None, Tensor]] = []
        for layer, (weight, bias) in zip(at.layers, directions, strict=True):
            Rz = torch.matmul(layer.inputs, weight.mT)
            if Ra is not None:
                Rz.baddbmm_(Ra, _each(layer.weight.T, Ra))
            if bias is not None:
                Rz += bias[:, None]
            forward.append((Ra, Rz))
            Ra = Rz if layer.slope is None else layer.slope * Rz
        assert Ra is not None  # there is a layer
        Rback, parts = at.outputs.bend(Ra), list[Tensor]()
        for layer, (weight, bias), (Rinputs, Rz) in zip(
            reversed(at.layers), reversed(directions), reversed(forward), strict=True
        ):
            Rsignal = Rback
            if layer.slope is not None and layer.bent is not None:
                Rsignal = (layer.slope * Rback).addcmul_(layer.bent, Rz)
            self.layers.insert(0, _Along(weight, Rinputs, Rz, Rback, Rsignal))
            own = Rsignal.mT @ layer.inputs
            if Rinputs is not None:
                own.baddbmm_(_each(layer.signal.T, Rinputs), Rinputs)
                Rback = (Rsignal @ layer.weight).baddbmm_(_each(layer.signal, weight), weight)
            parts[:0] = [own.flatten(1), *([] if bias is None else [Rsignal.sum(1)])]
        self.image = torch.cat(parts, 1)

    def third(self, first: list[int], other: "Swept", second: list[int]) -> Tensor:
        """D^3 L[u, v] (m, p) for each of the ``first`` of these directions u and the ``second`` of the others v."""
        pairs = [
            (layer, _picked(u, first), _picked(v, second))
            for layer, u, v in zip(self.at.layers, self.layers, other.layers, strict=True)
        ]
        Ta: Tensor | None = None
        forward: list[tuple[Tensor | None, Tensor | None]] = []
        for layer, u, v in pairs:
            Tz, Tinputs = None, Ta
            if u.Rinputs is not None and v.Rinputs is not None:
                Tz = (v.Rinputs @ u.weight.mT).baddbmm_(u.Rinputs, v.weight.mT)
                if Ta is not None:
                    Tz.baddbmm_(Ta, _each(layer.weight.T, Ta))
            forward.append((Tinputs, Tz))
            Ta = Tz
            if layer.slope is not None and layer.bend is not None:
                Ta = (u.Rz * v.Rz).mul_(layer.bend)
                Ta = Ta if Tz is None else Ta.addcmul_(layer.slope, Tz)
        last, u, v = pairs[-1]
        Tback = self.at.outputs.curl(*(x.Rz if last.slope is None else last.slope * x.Rz for x in (u, v)))
        if Ta is not None:
            Tback = Tback + self.at.outputs.bend(Ta)
        parts: list[Tensor] = []
        for (layer, u, v), (Tinputs, Tz), (linear, _) in zip(
            reversed(pairs), reversed(forward), reversed(self.at.network.stages), strict=True
        ):
            Tsignal = Tback
            if layer.slope is not None and layer.bend is not None and layer.curl is not None:
                mixed = (u.Rz * v.Rback).addcmul_(v.Rz, u.Rback)
                if Tz is not None:
                    mixed.addcmul_(layer.back, Tz)
                Tsignal = (layer.slope * Tback).addcmul_(layer.bend, mixed)
                Tsignal.addcmul_(layer.curl, (u.Rz * v.Rz).mul_(layer.back))
            own = Tsignal.mT @ layer.inputs
            if u.Rinputs is not None and v.Rinputs is not None:
                own.baddbmm_(u.Rsignal.mT, v.Rinputs).baddbmm_(v.Rsignal.mT, u.Rinputs)
                if Tinputs is not None:
                    own.baddbmm_(_each(layer.signal.T, Tinputs), Tinputs)
                Tback = (Tsignal @ layer.weight).baddbmm_(u.Rsignal, v.weight).baddbmm_(v.Rsignal, u.weight)
            parts[:0] = [own.flatten(1), *([] if linear.bias is None else [Tsignal.sum(1)])]
        return torch.cat(parts, 1)


def _each(matrix: Tensor, like: Tensor) -> Tensor:
    """The matrix repeated for every direction of ``like``, as a view."""
    return matrix.expand(len(like), *matrix.shape)


def _picked(along: _Along, chosen: list[int]) -> _Along:
    """The chosen directions, as views if there is one."""
    rows = slice(chosen[0], chosen[0] + 1) if len(chosen) == 1 else chosen
    Rinputs = None if along.Rinputs is None else along.Rinputs[rows]
    return _Along(along.weight[rows], Rinputs, along.Rz[rows], along.Rback[rows], along.Rsignal[rows])


def _elementwise(
    modules: tuple[nn.Module, ...], z: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """phi(z) and its first three derivatives, for a chain of modules; None for the derivatives if it is empty."""
    if not modules:
        return z, None, None, None
    only = modules[0] if len(modules) == 1 else None
    if type(only) is nn.GELU and only.approximate == "none":
        below = 0.5 * (1.0 + torch.erf(z * math.sqrt(0.5)))  # the normal distribution and its density
        density = torch.exp(-0.5 * z.square()) * (1.0 / math.sqrt(2.0 * math.pi))
        square = z.square()
        return z * below, torch.addcmul(below, z, density), density * (2.0 - square), density * z * (square - 4.0)
    if type(only) is nn.Tanh:
        a = torch.tanh(z)
        slope = 1.0 - a.square()
        return a, slope, -2.0 * a * slope, slope * (6.0 * a.square() - 2.0)
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        a = z.clone()  # in case an activation works in place
        for module in modules:
            a = module(a)
        found = [a]
        for _ in range(3):
            rows = torch.zeros_like(z)
            if found[-1].requires_grad:  # otherwise the next derivative is zero
                (rows,) = torch.autograd.grad(found[-1].sum(), z, create_graph=True, materialize_grads=True)
            found.append(rows)
    a, slope, bend, curl = (x.detach() for x in found)
    return a, slope, bend, curl
