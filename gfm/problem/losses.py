"""Training losses: means over examples of a per-example loss, in plain differentiable operations.

Masked sequence targets are class indices of shape ``(n, T)`` with ``-1`` where a position does not count.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfm.errors import InputError, UnknownNameError

__all__ = ["Loss", "CrossEntropy", "MeanSquare", "available", "resolve"]


class Loss:
    """A loss on rows of targets; class indices become one-hot rows, and masked positions do not count."""

    name = ""

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The targets for outputs (n, ...), checked and in the form that a call expects.

        Raises:
            InputError: The targets' shape, dtype or values do not fit.
        """
        if not targets.is_floating_point():
            return self._one_hot(outputs, targets)
        if targets.shape != outputs.shape:
            raise InputError(
                f"The {self.name} loss needs targets of the outputs' shape {tuple(outputs.shape)}, "
                f"but they have shape {tuple(targets.shape)}."
            )
        if targets.dtype != outputs.dtype:
            raise InputError(
                f"The targets have dtype {targets.dtype} but the module computes in {outputs.dtype}; "
                f"convert one of them."
            )
        return targets

    def _one_hot(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # (..., ) to (..., classes); a masked position (-1) becomes a row of NaN.
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"The {self.name} loss needs class indices of shape {tuple(outputs.shape[:-1])} for outputs of "
                f"shape {tuple(outputs.shape)}, but the targets have shape {tuple(targets.shape)}."
            )
        classes = outputs.shape[-1]
        lowest = -1 if outputs.ndim > 2 else 0  # an example cannot be masked as a whole
        if targets.min() < lowest or targets.max() >= classes:
            raise InputError(
                f"Class indices must lie in 0..{classes - 1} (or -1 for a masked position of a sequence), "
                f"but they range from {int(targets.min())} to {int(targets.max())}."
            )
        if outputs.ndim > 2 and (targets < 0).flatten(1).all(1).any():
            raise InputError("Every position of an example is masked (-1), so it has no loss; leave such examples out.")
        rows = torch.nn.functional.one_hot(targets.clamp(min=0).long(), classes).to(outputs.dtype)
        rows[targets < 0] = float("nan")
        return rows

    def weight(self, targets: Tensor) -> float:
        """The weight of prepared targets (m, ...) in the mean over all examples: their number."""
        return float(len(targets))

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """One loss per example, (n,), from outputs (n, ...) and prepared targets."""
        if outputs.ndim == 1:  # one output per example
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
            InputError: Integer targets have the outputs' shape, or the targets do not fit otherwise.
        """
        if not targets.is_floating_point() and targets.shape == outputs.shape:
            raise InputError(
                f"The mse loss got integer targets of the outputs' shape {tuple(outputs.shape)}; "
                f"convert them to {outputs.dtype}."
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
        """Rows of probabilities (..., classes), given as such or as class indices.

        Raises:
            InputError: There are fewer than two outputs, the shape does not fit, or rows are not probabilities.
        """
        if outputs.ndim < 2 or outputs.shape[-1] < 2:
            raise InputError(
                f"The cross_entropy loss needs one output a class on the last axis, at least two, but the outputs "
                f"have shape {tuple(outputs.shape)}."
            )
        rows = super().prepare(outputs, targets)
        if targets.is_floating_point() and ((rows < 0).any() or ((rows.sum(-1) - 1).abs() > 1e-3).any()):
            raise InputError(
                "Target rows of the cross_entropy loss must be probabilities (not negative, with sum 1); give those "
                "or class indices."
            )
        return rows

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy of each row: (..., classes) to (...)."""
        return -(targets * torch.log_softmax(outputs, -1)).sum(-1)


class CallableLoss(Loss):
    """A user's function of (outputs, targets): the mean over the given examples, or the loss of each.

    Args:
        function: returns a scalar, or (n,).
        weight: the weight of targets (m, ...) in the mean; by default that of torch's own losses, or the number of
            examples.
    """

    name = "callable"

    def __init__(
        self, function: Callable[[Tensor, Tensor], Tensor], weight: Callable[[Tensor], float | Tensor] | None = None
    ):
        self.function = function
        self._weight = _weight_in_torch(function) if weight is None else weight

    def weight(self, targets: Tensor) -> float:
        """The weight of targets (m, ...) in the mean over all examples.

        Raises:
            InputError: The user's function does not give a finite number of at least 0.
        """
        if self._weight is None:
            return super().weight(targets)
        value = float(self._weight(targets))
        if not 0 <= value < math.inf:
            raise InputError(f"loss_weight must give a number of at least 0, but it gives {value}.")
        return value

    def prepare(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The targets (n, ...) themselves, after a trial of the function on outputs (n, ...).

        Raises:
            InputError: It returns neither one number nor one for each example.
        """
        value = self.function(outputs, targets)
        if not isinstance(value, Tensor) or not (value.numel() == 1 or value.shape == (len(outputs),)):
            found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError(
                "A callable loss must return a scalar tensor for (outputs, targets), or one value per example, "
                f"but it returns {found}."
            )
        return targets

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.function(outputs, targets).reshape(-1)


def _weight_in_torch(function: Callable) -> Callable[[Tensor], float | Tensor] | None:
    """The weight of targets in torch's mean losses over classes: 0 for ignored ones, the class's own for others."""
    if not isinstance(function, (nn.CrossEntropyLoss, nn.NLLLoss)) or function.reduction != "mean":
        return None

    def weight(targets: Tensor) -> float | Tensor:
        if targets.is_floating_point():  # probabilities: a plain mean
            return float(targets.shape[0])
        kept = targets[targets != function.ignore_index]
        return float(len(kept)) if function.weight is None else function.weight[kept].sum()

    return weight


_LOSSES: dict[str, type[Loss]] = {"mse": MeanSquare, "cross_entropy": CrossEntropy}


def available() -> list[str]:
    """The names accepted by ``gfm.Problem(loss=...)``."""
    return sorted(_LOSSES)


def resolve(
    loss: str | Loss | Callable[[Tensor, Tensor], Tensor], weight: Callable[[Tensor], float | Tensor] | None = None
) -> Loss:
    """The loss for a name, a ``Loss`` itself, or a wrapped callable ``(outputs, targets) -> scalar``.

    Args:
        loss: as in ``gfm.Problem``.
        weight: for a callable, the weight of targets (m, ...) in the mean over all examples.

    Raises:
        UnknownNameError: The name is not one of ``available()``.
        InputError: ``weight`` is given with a named loss, or is not a function.
    """
    if weight is not None and (not callable(weight) or isinstance(loss, (Loss, str))):
        raise InputError("loss_weight must be a function of the targets, and belongs to a callable loss.")
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return CallableLoss(loss, weight)
    if not isinstance(loss, str) or loss not in _LOSSES:
        raise UnknownNameError(f"Unknown loss {loss!r}; choose one of {', '.join(available())} or a callable.")
    return _LOSSES[loss]()
