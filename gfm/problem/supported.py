"""Modules and data that a problem refuses, because its results could not be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfm.errors import GfmError, InputError
from gfm.nets.norms import is_fused
from gfm.problem.losses import CallableLoss, Loss

__all__ = ["check_data", "check_module", "explained", "prepared_targets", "same_random_numbers"]


def _changes(layer: nn.Module) -> bool:
    """Whether a layer is in train mode and therefore random or changed by each pass.

    Such layers are dropout (also in attention and recurrent networks), randomised leaky ReLU, batch norm, and
    spectral norm, which performs a step of its power iteration at every pass.
    """
    if not layer.training:
        return False
    if isinstance(layer, nn.MultiheadAttention):
        return layer.dropout > 0
    if isinstance(layer, nn.RNNBase):
        return layer.dropout > 0 and layer.num_layers > 1
    kinds = (_BatchNorm, _DropoutNd, nn.RReLU, parametrizations._SpectralNorm)
    return isinstance(layer, kinds) or _hooked(layer, SpectralNorm)


def _weight_norm(layer: nn.Module) -> bool:
    """Whether a layer's weights pass through torch's weight norm, as a parametrization or in the older form.

    Hessian products through it are wrong by a quarter to a half (in torch 2.13 the Hessian is not symmetric).
    """
    return isinstance(layer, parametrizations._WeightNorm) or _hooked(layer, WeightNorm)


def _hooked(layer: nn.Module, kind: type) -> bool:
    return any(isinstance(hook, kind) for hook in layer._forward_pre_hooks.values())


#: Tests for layers that no problem can contain, each with its error message.
_UNFIT: tuple[tuple[Callable[[nn.Module], bool], str], ...] = (
    (
        _changes,
        "the module is in train mode and holds dropout, batch norm or the like ({}), so its loss is not a fixed "
        "function of the weights; call module.eval() first",
    ),
    (
        _weight_norm,
        "the module's weights pass through weight_norm ({}), whose second derivatives are wrong in torch; remove it "
        "(remove_parametrizations or remove_weight_norm) or write g v / |v| out",
    ),
    (
        is_fused,
        "the module holds fused norms ({}), whose third derivatives are wrong in torch; replace them with those of "
        "gfm.nets.norms, which are written out",
    ),
)


def check_module(module: nn.Module) -> None:
    """Refuse modules whose loss is not a fixed function of the weights, or whose derivatives torch computes wrongly.

    Raises:
        InputError: A layer is random in train mode, uses weight_norm, or is a fused norm.
    """
    for unfit, sentence in _UNFIT:
        found = [
            f"{path.partition('.parametrizations')[0] or 'module'} ({type(layer).__name__})"
            for path, layer in module.named_modules() if unfit(layer)
        ]
        if found:
            raise InputError(sentence.format(", ".join(found)))


def check_data(inputs: Tensor, targets: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse data that do not fit a module with this dtype and device.

    Raises:
        InputError: The data are not tensors, are empty or not finite, or differ in length, dtype or device.
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


def prepared_targets(
    module: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, *, few: int, batch_size: int
) -> Tensor:
    """The targets (n, ...) in the form that ``loss`` expects, after a check of the module's outputs.

    Args:
        module: takes inputs (n, ...).
        inputs: (n, ...). If they are tokens, the module is applied to all of them, ``batch_size`` examples at a time.
        targets: (n, ...), as the user gave them.
        loss: prepares them.
        few: number of examples on which outputs are computed, twice.
        batch_size: number of examples that the module takes at a time.

    Raises:
        InputError: The module cannot take the inputs, does not return one row of outputs per example, or returns
            different outputs at each call; or the loss cannot take the targets.
    """
    with explained(f"the module cannot take inputs of shape {tuple(inputs.shape)}"):
        with torch.no_grad(), same_random_numbers(inputs.device):
            outputs, again = module(inputs[:few]), module(inputs[:few])
            if not inputs.is_floating_point():
                for part in inputs.split(batch_size):
                    module(part)
    if not isinstance(outputs, Tensor) or outputs.shape[:1] != inputs[:few].shape[:1]:
        raise InputError("the module must return one tensor with one row of outputs per example")
    if not torch.allclose(outputs, again, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            "the module gives other outputs each time it sees the same inputs (dropout?), so its loss is not a "
            "fixed function of the weights; call module.eval() first or take the randomness out"
        )
    with explained("the loss cannot be computed on these targets"):
        if isinstance(loss, CallableLoss):
            loss.prepare(outputs, targets[:few])
            return targets
        return loss.prepare(outputs.new_empty((len(inputs), *outputs.shape[1:])), targets)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Context in which an error in a user's code becomes one sentence: ``what`` and the error's first line.

    Raises:
        GfmError: An error of this package was raised; it is not changed.
        InputError: Any other exception was raised.
    """
    try:
        yield
    except GfmError:
        raise
    except Exception as failure:
        lines = str(failure).strip().splitlines()
        raise InputError(f"{what}: {lines[0].rstrip('.') if lines else type(failure).__name__}") from failure


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Context after which torch's random generators are restored."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
