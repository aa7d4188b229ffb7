"""Training losses: means over examples of a per-example loss, in plain differentiable operations.

Masked sequence targets are class indices of shape ``(n, T)`` with ``-1`` where a position does not count.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gfm.errors import InputError, UnknownNameError

__all__ = ["Loss", "CrossEntropy", "MeanSquare", "available", "resolve"]


class Loss:
    """A loss on rows of targets: class indices become one-hot rows, masked positions do not count."""

    name = ""

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Checked targets in the form that the call takes, for outputs (n, ...).

        Raises:
            InputError: targets whose shape, dtype or values do not fit.
        """
        if not targets.is_floating_point():
            return self._one_hot(outputs, targets)
        if targets.shape != outputs.shape:
            raise InputError(
                f"the {self.name} loss needs targets of the outputs' shape {tuple(outputs.shape)}, "
                f"but they have shape {tuple(targets.shape)}"
            )
        if targets.dtype != outputs.dtype:
            raise InputError(
                f"the targets have dtype {targets.dtype} but the module computes in {outputs.dtype}; "
                f"convert one of them"
            )
        return targets

    def _one_hot(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # (..., ) to (..., classes); a masked position (-1) becomes a row of NaN.
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"the {self.name} loss needs class indices of shape {tuple(outputs.shape[:-1])} for outputs of "
                f"shape {tuple(outputs.shape)}, but the targets have shape {tuple(targets.shape)}"
            )
        classes = outputs.shape[-1]
        lowest = -1 if outputs.ndim > 2 else 0  # a masked example would be no example at all
        if targets.min() < lowest or targets.max() >= classes:
            raise InputError(
                f"class indices must lie in 0..{classes - 1} (or -1 for a masked position of a sequence), "
                f"but they range from {int(targets.min())} to {int(targets.max())}"
            )
        if outputs.ndim > 2 and (targets < 0).flatten(1).all(1).any():
            raise InputError("every position of an example is masked (-1), so it has no loss; leave such examples out")
        rows = torch.nn.functional.one_hot(targets.clamp(min=0).long(), classes).to(outputs.dtype)
        rows[targets < 0] = float("nan")
        return rows

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss per example, (n,), from outputs (n, ...) and prepared targets."""
        if outputs.ndim == 1:  # one output an example
            outputs, targets = outputs[:, None], targets[:, None]
        if outputs.ndim == 2:
            return self.rows(outputs, targets)
        kept = ~torch.isnan(targets[..., 0])  # the mean over the unmasked positions of each example
        values = self.rows(outputs, targets.nan_to_num()) * kept
        return values.flatten(1).sum(1) / kept.flatten(1).sum(1)

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each row: (..., outputs) to (...)."""
        raise NotImplementedError


class MeanSquare(Loss):
    """Half the squared error summed over outputs (Central Flows' convention), averaged over examples."""

    name = "mse"

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Targets of the outputs' shape, or one-hot rows of class indices.

        Raises:
            InputError: integer targets of the outputs' shape, or another shape.
        """
        if not targets.is_floating_point() and targets.shape == outputs.shape:
            raise InputError(
                f"the mse loss got integer targets of the outputs' shape {tuple(outputs.shape)}; "
                f"convert them to {outputs.dtype}"
            )
        return super().prepare(outputs, targets)

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Half the squared error of each row: (..., outputs) to (...)."""
        # Written out: forward-mode derivatives through the fused mean square fail.
        return 0.5 * ((outputs - targets) ** 2).sum(-1)


class CrossEntropy(Loss):
    """Cross-entropy of softmax outputs (logits on the last axis) against classes or target rows."""

    name = "cross_entropy"

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Rows of probabilities, (..., classes), from themselves or from class indices.

        Raises:
            InputError: fewer than two outputs, another shape, or rows that are no probabilities.
        """
        if outputs.ndim < 2 or outputs.shape[-1] < 2:
            raise InputError(
                f"the cross_entropy loss needs one output a class on the last axis, at least two, but the outputs "
                f"have shape {tuple(outputs.shape)}"
            )
        rows = super().prepare(outputs, targets)
        if targets.is_floating_point() and ((rows < 0).any() or ((rows.sum(-1) - 1).abs() > 1e-3).any()):
            raise InputError(
                "target rows of the cross_entropy loss must be probabilities (not negative, with sum 1); give those "
                "or class indices"
            )
        return rows

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy of each row: (..., classes) to (...)."""
        return -(targets * torch.log_softmax(outputs, -1)).sum(-1)


class CallableLoss(Loss):
    """A user's ``(outputs, targets) -> scalar``: a mean over the examples it is given."""

    name = "callable"

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]):
        self.function = function

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = self.function(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError("a callable loss must return a scalar tensor for (outputs, targets)")
        return targets

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets).reshape(1)


_LOSSES: dict[str, type[Loss]] = {"mse": MeanSquare, "cross_entropy": CrossEntropy}


def available() -> list[str]:
    """Names that ``gfm.Problem(loss=...)`` understands."""
    return sorted(_LOSSES)


def resolve(loss: str | Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss named, a ``Loss`` as it is, or the user's callable ``(outputs, targets) -> scalar`` wrapped.

    Raises:
        UnknownNameError: the name is not one of ``available()``.
    """
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return CallableLoss(loss)
    if not isinstance(loss, str) or loss not in _LOSSES:
        raise UnknownNameError(f"unknown loss {loss!r}; choose one of {', '.join(available())} or a callable")
    return _LOSSES[loss]()
