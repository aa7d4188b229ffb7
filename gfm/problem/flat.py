"""A module's parameters as one flat weight vector, and back.

All code built on this module treats a network as a function of one vector ``w`` of shape ``(p,)``.
"""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from gfm.errors import InputError

__all__ = ["Flat", "trainable"]


class Flat:
    """The map between a module's trainable parameters and a flat vector.

    Parameters are laid out in the order of ``module.named_parameters()``; a shared (tied) parameter
    occurs once, under its first name. Frozen parameters (``requires_grad=False``) and buffers are not part of the
    vector and remain unchanged.

    Attributes:
        names, shapes, sizes: one entry for each parameter tensor.
        p: the number of weights.
        dtype, device: those of the parameters (one of each).

    Raises:
        InputError: There are no trainable parameters, or the parameters are not yet initialised, have several
            dtypes or devices, or are neither float32 nor float64.
    """

    def __init__(self, module: nn.Module) -> None:
        named = trainable(module)
        dtypes = {q.dtype for _, q in named}
        devices = {q.device for _, q in named}
        if len(dtypes) > 1:
            kinds = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
            raise InputError(
                f"The module's parameters have several dtypes ({kinds}): convert it to one first, "
                "e.g. module.double()."
            )
        if len(devices) > 1:
            places = ", ".join(sorted(str(d) for d in devices))
            raise InputError(f"The module's parameters lie on several devices ({places}): move it to one.")
        self.dtype: torch.dtype = dtypes.pop()
        self.device: torch.device = devices.pop()
        if self.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"The module's parameters are {self.dtype}: convert it to float32 or float64, since second "
                "and third derivatives need a real dtype of that precision."
            )
        self.names: tuple[str, ...] = tuple(name for name, _ in named)
        self.shapes: tuple[tuple[int, ...], ...] = tuple(tuple(q.shape) for _, q in named)
        self.sizes: tuple[int, ...] = tuple(prod(shape) for shape in self.shapes)
        self.p: int = sum(self.sizes)
        self._layout = tuple(zip(self.names, self.shapes, strict=True))

    def flatten(self, module: nn.Module) -> Tensor:
        """The module's weights as a new vector ``(p,)``, detached from the module.

        Raises:
            InputError: The module's parameters differ from those of the module from which this map was built.
        """
        parameters = self._matching(module)
        return torch.cat([q.detach().reshape(-1) for q in parameters])

    def views(self, w: Tensor) -> dict[str, Tensor]:
        """The parameters as differentiable views of ``w``.

        The result can be passed to ``torch.func.functional_call``, which also handles tied names.

        Args:
            w: ``(p,)`` or ``(..., p)``; leading dimensions are kept in front of each parameter's shape.

        Raises:
            InputError: The last dimension of ``w`` is not ``p``.
        """
        if w.ndim == 0 or w.shape[-1] != self.p:
            raise InputError(f"The weight vector has shape {tuple(w.shape)}, but this module has {self.p} weights.")
        parts = w.split(self.sizes, dim=-1)
        lead = tuple(w.shape[:-1])
        return {name: v.view(lead + shape) for (name, shape), v in zip(self._layout, parts, strict=True)}

    def load(self, module: nn.Module, w: Tensor) -> None:
        """Write the vector ``w`` ``(p,)`` into the module's parameters, in place.

        Raises:
            InputError: ``w`` has another shape, or the module's parameters differ from those of this map.
        """
        if w.ndim != 1:
            raise InputError(f"The weight vector has shape {tuple(w.shape)}: one vector ({self.p},) is needed.")
        parameters = self._matching(module)
        values = self.views(w.detach())
        with torch.no_grad():
            for name, parameter in zip(self.names, parameters, strict=True):
                parameter.copy_(values[name])

    def _matching(self, module: nn.Module) -> list[Tensor]:
        named = trainable(module)
        if tuple((name, tuple(q.shape)) for name, q in named) != self._layout:
            raise InputError(
                "The module's parameters differ in name or shape from those of the module that "
                "this flat map was built from."
            )
        return [q for _, q in named]


def trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that make up a module's flat vector, by name and in its order; a tied one occurs once.

    Raises:
        InputError: ``module`` is no module, is not yet initialised, or has no trainable parameters.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"A torch.nn.Module is needed, not {type(module).__name__}.")
    named = list(module.named_parameters())  # a tied parameter occurs once
    if any(isinstance(q, UninitializedParameter) for _, q in named):
        raise InputError("The module has lazy parameters without a shape: run it once on the inputs first.")
    trainable = [(name, q) for name, q in named if q.requires_grad and q.numel() > 0]
    if not trainable:
        raise InputError("The module has no trainable parameters, so there is no flat vector.")
    return trainable

