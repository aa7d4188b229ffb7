"""Normalisation layers with correct third derivatives, and a function that finds others in a module.

From the second backward pass on, torch's fused layer, batch and instance norms treat their saved mean and inverse
deviation as constants. Gradient and Hessian are then right, but third derivatives are silently wrong (by 6 to
70 %, depending on the order of nesting). The layers here are plain tensor operations. They follow the
central-flows paper's settings: unbiased variance, and for the layer norm an epsilon outside the root.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # of torch's batch and instance norms

from gfm.errors import InputError

__all__ = ["GroupNorm", "LayerNorm", "RMSNorm", "fused_norms", "is_fused"]


class LayerNorm(nn.Module):
    """``weight * (x - mean) / (std + eps) + bias`` over the last dimension, ``(..., width)``.

    Raises:
        InputError: The width is below 2.
    """

    def __init__(self, width: int, eps: float = 1e-6, *, dtype: torch.dtype | None = None):
        super().__init__()
        if width < 2:
            raise InputError(f"A layer norm needs at least 2 entries, not {width}.")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        centred = x - x.mean(-1, keepdim=True)
        length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
        deviation = length / sqrt(x.shape[-1] - 1)
        return torch.addcmul(self.bias, centred * (deviation + self.eps).reciprocal(), self.weight)


class GroupNorm(nn.Module):
    """``weight * (x - mean) / sqrt(var + eps) + bias``, ``(n, channels, ...)`` by channel groups.

    Raises:
        InputError: The groups do not divide the channels.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-6, *, dtype: torch.dtype | None = None):
        super().__init__()
        if channels % groups:
            raise InputError(f"{channels} channels cannot be divided into {groups} groups.")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(channels, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, ...) to the same shape."""
        n, channels = x.shape[:2]
        grouped = x.reshape(n, self.groups, -1)
        centred = grouped - grouped.mean(-1, keepdim=True)
        variance = centred.square().sum(-1, keepdim=True) / (grouped.shape[-1] - 1)
        normal = (centred * (variance + self.eps).rsqrt()).reshape(x.shape)
        shape = (1, channels) + (1,) * (x.ndim - 2)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class RMSNorm(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last dimension, ``(..., width)``."""

    def __init__(self, width: int, eps: float = 1e-5, *, dtype: torch.dtype | None = None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same shape."""
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight


def is_fused(layer: nn.Module) -> bool:
    """Whether ``layer`` is one of torch's fused norms, whose third derivatives are or may be wrong.

    These are ``nn.LayerNorm``, ``nn.GroupNorm``, ``nn.RMSNorm`` and the batch and instance norms. Group and RMS
    norms are included because they are fused too, although torch 2.13 differentiates them correctly on the CPU. A
    batch or instance norm in evaluation mode that uses its running statistics is an affine map, and does not count.
    """
    fixed = isinstance(layer, _NormBase) and not layer.training and layer.running_mean is not None
    return isinstance(layer, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)) and not fixed


def fused_norms(module: nn.Module) -> list[str]:
    """``"path (class)"`` of each of torch's fused norms in a module, including the module itself.

    Norms that a module's ``forward`` calls as functions are not found.
    """
    return [f"{path or 'module'} ({type(layer).__name__})" for path, layer in module.named_modules() if is_fused(layer)]
