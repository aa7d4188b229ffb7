"""What a problem refuses at once: modules and data on which it could not be right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.nets.norms import fused_norms, reparametrised, train_only

__all__ = ["check_data", "check_module"]


def check_module(module: nn.Module) -> None:
    """Refuse modules whose loss is no fixed smooth function of the weights, or whose derivatives torch gets wrong.

    Raises:
        InputError: layers in train mode, weight_norm, fused norms.
    """
    random = train_only(module)
    if random:
        raise InputError(
            "the module is in train mode and holds dropout, batch norm or the like "
            f"({', '.join(random)}), so its loss is not a fixed function of the weights; call module.eval() first"
        )
    norms = reparametrised(module)
    if norms:
        raise InputError(
            f"the module's weights pass through weight_norm ({', '.join(norms)}), whose second derivatives are wrong "
            "in torch; remove it (remove_parametrizations or remove_weight_norm) or write g v / |v| out"
        )
    fused = fused_norms(module)
    if fused:
        raise InputError(
            f"the module holds fused norms ({', '.join(fused)}), whose third derivatives are wrong in "
            "torch; replace them with those of gfm.nets.norms, which are written out"
        )


def check_data(inputs: Tensor, targets: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse data that do not fit a module of that dtype on that device.

    Raises:
        InputError: no tensors, empty ones, NaN, other lengths, dtypes or devices.
    """
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name} must be a torch tensor, but they are a {type(tensor).__name__}")
        if tensor.numel() == 0 or tensor.ndim == 0:
            raise InputError(f"{name} are empty; at least one example is needed")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{name} contain NaN or infinity; remove those examples")
        if tensor.device != device:
            raise InputError(f"{name} are on {tensor.device} but the module is on {device}; move one of them")
    if inputs.shape[0] != targets.shape[0]:
        raise InputError(f"there are {inputs.shape[0]} inputs but {targets.shape[0]} targets")
    if inputs.is_floating_point() and inputs.dtype != dtype:
        raise InputError(
            f"the inputs have dtype {inputs.dtype} but the module computes in {dtype}; convert one of them"
        )
