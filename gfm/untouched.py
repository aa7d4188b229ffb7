"""A loss evaluated in the middle of training, at other weights too, with everything left as it was."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.randomness import restoring

__all__ = ["untouched", "value_of"]


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Context at whose end trainable weights, buffers, gradients and training mode of the model are restored."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tensors = [(tensor, tensor.detach().clone()) for tensor in (*parameters, *model.buffers())]
    owners = [(m, dict(m.named_buffers(recurse=False)), m.training) for m in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)
        for module, buffers, training in owners:
            module.training = training
            for name, buffer in buffers.items():
                setattr(module, name, buffer)  # some modules replace a buffer instead of changing it
        for parameter, gradient in gradients:
            parameter.grad = gradient


def value_of(loss: Callable[[], Tensor | float], device: torch.device) -> float:
    """The loss, infinite if it is not finite.

    The global random states, of torch on the CPU and on ``device``, are restored, so that dropout draws the same masks.

    Raises:
        InputError: It is no real number.
    """
    states = random.getstate(), np.random.get_state()
    with restoring(device), torch.enable_grad():
        try:
            found = loss()
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
    try:
        value = float(found.detach() if isinstance(found, Tensor) else found)
    except (TypeError, ValueError, RuntimeError):
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise InputError(f"The loss must be one real number, not a {type(found).__name__}{shape}.") from None
    return value if math.isfinite(value) else math.inf
