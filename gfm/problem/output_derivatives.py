"""Derivatives of the mean loss with respect to the network's outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from gfm.problem.losses import CrossEntropy, Loss, MeanSquare

__all__ = ["OutputDerivatives", "output_derivatives"]


class OutputDerivatives:
    """Derivatives of the mean loss at outputs (n, ...), by backward passes, one for every direction.

    Attributes:
        value: 0-d mean loss.
        slope: (n, ...) first derivative.
    """

    def __init__(self, loss: Loss, outputs: Tensor, targets: Tensor):
        self._leaf = outputs.detach().requires_grad_()
        value = loss(self._leaf, targets).mean()
        (self._slope,) = torch.autograd.grad(value, self._leaf, create_graph=True)
        self.value, self.slope = value.detach(), self._slope.detach()

    def bend(self, R: Tensor) -> Tensor:
        """Second derivative along each of R (k, n, ...)."""
        return torch.stack([self._along(r, graph=False) for r in R])

    def curl(self, R: Tensor, Q: Tensor) -> Tensor:
        """Third derivative along each of R and Q, both (m, n, ...)."""
        rows = []
        for r, q in zip(R, Q, strict=True):
            bend = self._along(r, graph=True)
            rows.append(
                torch.autograd.grad(bend, self._leaf, q, materialize_grads=True)[0]
                if bend.requires_grad else torch.zeros_like(r)
            )
        return torch.stack(rows)

    def _along(self, r: Tensor, graph: bool) -> Tensor:
        if not self._slope.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(r)
        return torch.autograd.grad(
            self._slope, self._leaf, r, retain_graph=True, create_graph=graph, materialize_grads=True
        )[0]


class _MeanSquare(OutputDerivatives):
    """In closed form: of half the squared error, whose third derivative is zero."""

    def __init__(self, outputs: Tensor, targets: Tensor):
        error = outputs - targets
        self.value, self.slope = 0.5 * error.square().sum(-1).mean(), error / len(error)

    def bend(self, R: Tensor) -> Tensor:
        return R / R.shape[1]

    def curl(self, R: Tensor, Q: Tensor) -> Tensor:
        return torch.zeros_like(R)


class _CrossEntropy(OutputDerivatives):
    """In closed form, by the softmax's probabilities and moments of R and Q under them."""

    def __init__(self, outputs: Tensor, targets: Tensor):
        logs = torch.log_softmax(outputs, -1)
        total = targets.sum(-1, keepdim=True)  # 1 up to rounding
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


def output_derivatives(loss: Loss, outputs: Tensor, targets: Tensor) -> OutputDerivatives:
    """The derivatives at outputs (n, ...) and prepared targets, in closed form for rows of the named losses."""
    if outputs.ndim == 2 and type(loss) is MeanSquare:
        return _MeanSquare(outputs, targets)
    if outputs.ndim == 2 and type(loss) is CrossEntropy:
        return _CrossEntropy(outputs, targets)
    return OutputDerivatives(loss, outputs, targets)
