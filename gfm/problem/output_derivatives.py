"""Derivatives of the mean of a named loss with respect to the network's outputs, in closed form."""

from typing import Protocol

import torch
from torch import Tensor

from gfm.problem.losses import CrossEntropy, Loss, MeanSquare

__all__ = ["OutputDerivatives", "in_closed_form", "output_derivatives"]


class OutputDerivatives(Protocol):
    """Derivatives of the mean loss at outputs (n, m): its value (0-d) and its slope (n, m)."""

    value: Tensor
    slope: Tensor

    def bend(self, R: Tensor) -> Tensor:
        """Second derivative along each of R (k, n, m)."""

    def curl(self, R: Tensor, Q: Tensor) -> Tensor:
        """Third derivative along each pair of R and Q, both (k, n, m)."""


class _MeanSquare:
    """Derivatives of half the squared error; the third is zero."""

    def __init__(self, outputs: Tensor, targets: Tensor):
        error = outputs - targets
        self.value, self.slope = 0.5 * error.square().sum(-1).mean(), error / len(error)

    def bend(self, R: Tensor) -> Tensor:
        return R / R.shape[1]

    def curl(self, R: Tensor, Q: Tensor) -> Tensor:
        return torch.zeros_like(R)


class _CrossEntropy:
    """Derivatives of the cross-entropy, by moments of R and Q under the softmax's probabilities."""

    def __init__(self, outputs: Tensor, targets: Tensor):
        logs = torch.log_softmax(outputs, -1)
        total = targets.sum(-1, keepdim=True)  # near 1: target rows are checked to a thousandth
        self._shares = logs.exp()
        self._weighted = self._shares * (total / len(outputs))
        self.value = -(targets * logs).sum(-1).mean()
        self.slope = self._weighted - targets / len(outputs)

    def _centred(self, R: Tensor) -> Tensor:
        return R - (self._shares * R).sum(-1, keepdim=True)

    def bend(self, R: Tensor) -> Tensor:
        return self._weighted * self._centred(R)

    def curl(self, R: Tensor, Q: Tensor) -> Tensor:
        return self._weighted * self._centred(self._centred(R) * self._centred(Q))


_KINDS: dict[type[Loss], type[_MeanSquare] | type[_CrossEntropy]] = {
    MeanSquare: _MeanSquare, CrossEntropy: _CrossEntropy,
}


def in_closed_form(loss: Loss) -> bool:
    """Whether the loss is one of the named ones, unchanged."""
    return type(loss) in _KINDS and not vars(loss)


def output_derivatives(loss: Loss, outputs: Tensor, targets: Tensor) -> OutputDerivatives:
    """The derivatives of a loss that is ``in_closed_form`` at outputs (n, m) and prepared targets (n, m)."""
    return _KINDS[type(loss)](outputs, targets)
