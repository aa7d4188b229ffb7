"""Modules that are feed-forward networks: linear layers and elementwise activations, one after the other."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules import module as modules

__all__ = ["FeedForward"]

#: Elementwise layers. A module with layers other than these and linear ones is not handled here.
_ELEMENTWISE = (nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Identity)


@dataclass(frozen=True)
class FeedForward:
    """A module as a list of linear layers, each with the activations that follow it.

    Attributes:
        stages: (linear layer, elementwise modules after it), first to last.
    """

    stages: tuple[tuple[nn.Linear, tuple[nn.Module, ...]], ...]

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor) -> "FeedForward | None":
        """The module as such a list, or None if that is impossible.

        It is impossible if the module has other layers, parameters or buffers, tied or frozen weights, or hooks
        (including global ones), or if its first layer does not receive ``inputs`` (n, ...) as one row per example.
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
        weights = [q for linear, _ in stages for q in (linear.weight, linear.bias) if q is not None]
        hooked = modules._has_any_global_hook() or any(
            m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
            or "forward" in vars(m)
            for m in module.modules()
        )
        # The order matters to ``parts``: removing weight norm leaves the bias before the weight.
        own = [id(q) for q in module.parameters()] == [id(q) for q in weights] and next(module.buffers(), None) is None
        free = own and all(isinstance(q, nn.Parameter) and q.requires_grad for q in weights)
        return cls(tuple(stages)) if stages and free and not hooked else None

    def parts(self, w: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Views of every layer's (weight, bias) in a vector (p,)."""
        parts = iter(w.split([q.numel() for linear, _ in self.stages for q in linear.parameters()]))
        return [(next(parts).view(linear.weight.shape), None if linear.bias is None else next(parts))
                for linear, _ in self.stages]

    def parts_of_rows(self, V: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Views of every layer's (weights (k, rows, columns), biases (k, rows)) in vectors V (k, p)."""
        parts = iter(V.split([q.numel() for linear, _ in self.stages for q in linear.parameters()], dim=1))
        return [(next(parts).unflatten(1, linear.weight.shape), None if linear.bias is None else next(parts))
                for linear, _ in self.stages]
