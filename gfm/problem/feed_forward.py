"""Modules that are feed-forward networks: linear layers and elementwise activations, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["FeedForward"]

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

    def parts_of_rows(self, V: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Views of every layer's (weights (k, rows, columns), biases (k, rows)) in vectors V (k, p)."""
        parts = iter(V.split([q.numel() for linear, _ in self.stages for q in linear.parameters()], dim=1))
        return [(next(parts).unflatten(1, linear.weight.shape), None if linear.bias is None else next(parts))
                for linear, _ in self.stages]
