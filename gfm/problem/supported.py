"""Checks for modules and data that a problem refuses, because its results could not be right."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gfm.errors import GfmError, InputError, said
from gfm.nets.norms import is_fused
from gfm.problem.losses import CallableLoss
from gfm.problem.objective import Objective
from gfm.randomness import restoring

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = [
    "check_data", "check_module", "check_pieces", "explained", "prepared_targets", "unwrapped",
]


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, or the one inside a compiled or data-parallel module, with the same weights and outputs.

    Raises:
        InputError: It is no module, is compiled to TorchScript, sharded, or on the meta device.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"A torch.nn.Module is needed, not {type(module).__name__}.")
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(inside := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile
            module = inside
        else:
            break
    for path, part in module.named_modules():
        where = f"{path} ({type(part).__name__})" if path else type(part).__name__
        if isinstance(part, torch.jit.ScriptModule):
            raise InputError(
                f"{where} is compiled to TorchScript, so other weights cannot be put in; give the module itself."
            )
        if type(part).__name__ in ("FullyShardedDataParallel", "DataParallel", "DistributedDataParallel"):
            raise InputError(f"{where} inside the module spreads it over processes; give the plain module.")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta:
            raise InputError(f"{name} is on the meta device, so it has no values; load the module's weights first.")
    return module


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
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    if isinstance(layer, _BatchNorm):
        return layer.track_running_stats
    return isinstance(layer, (nn.RReLU, parametrizations._SpectralNorm)) or _hooked(layer, SpectralNorm)


def _renormalises(layer: nn.Module) -> bool:
    """Whether a layer shortens its rows in place at every pass."""
    return isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.max_norm is not None


def _weight_norm(layer: nn.Module) -> bool:
    """Whether a layer's weights pass through torch's weight norm, as a parametrization or in the older form.

    Hessian products through it are wrong by a quarter to a half (in torch 2.13 the Hessian is not symmetric).
    """
    return isinstance(layer, parametrizations._WeightNorm) or _hooked(layer, WeightNorm)


def _hooked(layer: nn.Module, kind: type) -> bool:
    return any(isinstance(hook, kind) for hook in layer._forward_pre_hooks.values())


#: Tests for layers that no problem can contain, each with its error message.
_UNFIT: dict[Callable[[nn.Module], bool], str] = {
    _changes: "The module is in train mode and holds dropout, batch norm or the like ({}), so its loss is not a fixed "
              "function of the weights; call module.eval() first.",
    _renormalises: "The module holds embeddings with max_norm ({}), which change their own weights in every forward "
                   "pass, so its loss is not a function of the weights that it is given; take max_norm out.",
    _weight_norm: "The module's weights pass through weight_norm ({}), whose second derivatives are wrong in torch; "
                  "remove it (remove_parametrizations or remove_weight_norm) or write g v / |v| out.",
    is_fused: "The module holds fused norms ({}), whose third derivatives are wrong in torch; replace them with those "
              "of gfm.nets.norms, which are written out (with the unbiased variance, so the outputs differ a little).",
}


def check_module(module: nn.Module) -> None:
    """Refuse modules whose loss is not a fixed function of the weights, or whose derivatives torch computes wrongly.

    Raises:
        InputError: A layer is random in train mode, uses weight_norm, or is a fused norm.
    """
    for unfit, sentence in _UNFIT.items():
        found = [
            f"{path.partition('.parametrizations')[0] or 'module'} ({type(layer).__name__})"
            for path, layer in module.named_modules() if unfit(layer)
        ]
        if found:
            raise InputError(sentence.format(", ".join(found)))


def check_data(inputs: Tensor, targets: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse data (n, ...) that do not fit a module with this dtype and device.

    Raises:
        InputError: The data are not tensors, are empty or not finite, or differ in length, dtype or device.
    """
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name} must be a torch tensor, but they are a {type(tensor).__name__}.")
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise InputError(f"{name} must be an ordinary dense tensor, but they are {tensor.layout}, {tensor.dtype}.")
        if tensor.numel() == 0 or tensor.ndim == 0:
            raise InputError(f"{name} are empty; at least one example is needed.")
        if tensor.device != device:
            raise InputError(f"{name} are on {tensor.device} but the module is on {device}; move one of them.")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{name} contain NaN or infinity; remove those examples.")
    if inputs.shape[0] != targets.shape[0]:
        raise InputError(f"There are {inputs.shape[0]} inputs but {targets.shape[0]} targets.")
    if inputs.is_floating_point() and inputs.dtype != dtype:
        raise InputError(
            f"The inputs have dtype {inputs.dtype} but the module computes in {dtype}; convert one of them."
        )


def prepared_targets(
    objective: Objective, w: Tensor, inputs: Tensor, targets: Tensor, *, few: int, batch_size: int
) -> Tensor:
    """The targets (n, ...) in the form that the loss expects, after a check of the module's outputs.

    Args:
        objective: module and loss.
        w: (p,) weights.
        inputs: (n, ...). If they are tokens, the module is applied to all of them, ``batch_size`` examples at a time.
        targets: (n, ...), as the user gave them.
        few: number of examples on which outputs are computed, twice.
        batch_size: number of examples that the module takes at a time.

    Raises:
        InputError: The module cannot take the inputs, does not return one row of outputs per example, or returns
            different outputs at each call; or the loss cannot take the targets.
    """
    with explained(f"The module cannot take inputs of shape {tuple(inputs.shape)}"):
        with restoring(inputs.device):
            # With a graph, like all later passes: if a module keeps a tensor of this pass, their graphs contain it.
            try:
                outputs, again = (objective.outputs(w.clone().requires_grad_(), inputs[:few]).detach() for _ in "12")
            except RuntimeError:
                objective.check_weights_kept(w, inputs[:few])
                raise
            if not inputs.is_floating_point():
                for part in inputs.split(batch_size):
                    objective.outputs(w, part)
    if outputs.shape[:1] != inputs[:few].shape[:1]:
        raise InputError(
            "The module must return one row of outputs per example, but for inputs of shape "
            f"{tuple(inputs[:few].shape)} its outputs have shape {tuple(outputs.shape)}."
        )
    if not torch.allclose(outputs, again, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise InputError(
            f"The module gives other outputs each time it sees the same inputs (they differ by up to "
            f"{float((outputs - again).abs().max()):.2g}), so its loss is not a fixed function of the weights; call "
            "module.eval() first or take the randomness out."
        )
    loss = objective.loss
    with explained("The loss cannot be computed on these targets"):
        if isinstance(loss, CallableLoss):
            loss.prepare(outputs, targets[:few])
            return targets
        return loss.prepare(outputs.new_empty((len(inputs), *outputs.shape[1:])), targets)


def check_pieces(problem: "Problem") -> None:
    """Check that the loss in pieces does not depend on how the examples are divided.

    The pieces in the given order are compared with others of shuffled examples, at weights some way from the start
    and at the cost of two evaluations of the loss.

    Raises:
        InputError: The loss depends on the division.
    """
    draw = torch.Generator().manual_seed(0)
    order = torch.randperm(problem.n, generator=draw).to(problem.device)
    other_size = 2 if problem.batch_size == 1 else problem.batch_size - max(1, problem.batch_size // 3)
    w = (problem.w0 + 0.1 * problem.w0.square().mean().sqrt() * torch.randn(problem.p, generator=draw).to(problem.w0))
    with explained("The loss of a piece cannot be computed"), restoring(problem.device):
        one, other = (
            _in_pieces(problem, w, examples, size)
            for examples, size in ((torch.arange(problem.n).to(order), problem.batch_size), (order, other_size))
        )
    tolerance = 1e-9 if problem.dtype == torch.float64 else 1e-4
    if not abs(one - other) <= tolerance * max(abs(one), abs(other)):
        raise InputError(
            f"With batch_size={problem.batch_size} the loss is {one:.6g}, and {other:.6g} if the same examples are "
            f"divided otherwise, so it is no mean over examples that can be taken in pieces; give loss_weight=, a loss "
            "of each example, or no batch_size."
        )


def _in_pieces(problem: "Problem", w: Tensor, examples: Tensor, size: int) -> float:
    total = weights = 0.0
    for part in examples.split(size):
        targets = problem.targets[part]
        weight = problem.row_loss.weight(targets)
        if weight:
            total += weight * float(problem.piece_loss(w, problem.inputs[part], targets).detach())
            weights += weight
    return total / weights if weights else math.nan


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

        kind = "KeyError: " if isinstance(failure, KeyError) else ""  # its message contains only the key
        raise InputError(f"{what}: {kind}{said(failure)}.") from failure
