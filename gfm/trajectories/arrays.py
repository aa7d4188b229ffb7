"""Arrays from whatever a user passes: NumPy arrays, torch tensors, nested lists."""

from typing import Any

import numpy as np
import torch

from gfm.errors import InputError
from gfm.trajectories.layout import plain_dtype

__all__ = ["as_array", "as_weights"]


def as_array(value: Any, what: str) -> np.ndarray:
    """``value`` (which may be a torch tensor) as a NumPy array of the same shape, if possible without a copy.

    Raises:
        InputError: It cannot be read as one array.
    """
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_meta:
            raise InputError(f"{what} must be a dense tensor with values; got {value.layout} on {value.device}.")
        value = plain_dtype(value.detach().cpu())
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:  # lists of different lengths, say
        raise InputError(f"{what} cannot be read as one array of numbers ({error}).") from None


def as_weights(weights: Any) -> np.ndarray:
    """``weights`` as an array (runs, steps+1, parameters), checked.

    Raises:
        InputError: The shape or dtype is wrong, the array holds no trajectory, or values are not finite.
    """
    weights = weights if isinstance(weights, np.ndarray) else as_array(weights, "weights")
    if weights.ndim != 3:
        raise InputError(
            "weights must have three axes (runs, steps+1, parameters); "
            f"got shape {tuple(weights.shape)}."
        )
    if not np.issubdtype(weights.dtype, np.floating):
        raise InputError(f"weights must be floating point; got {weights.dtype}.")
    runs, states, parameters = weights.shape
    if runs < 1 or states < 2 or parameters < 1:
        raise InputError(
            f"weights of shape {weights.shape} hold no trajectory: at least one run, two states "
            "and one parameter are needed."
        )
    for run in range(runs):  # run by run, so that a memory-mapped array is never held whole
        if not np.isfinite(weights[run]).all():
            raise InputError(f"weights of run {run} are not all finite; drop that run first.")
    return weights
