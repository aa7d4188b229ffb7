"""A training problem: the full-batch loss L(w) of a flat weight vector, with its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gfm import eigen, losses
from gfm.chain import Chain
from gfm.errors import GfmError, InputError
from gfm.flat import Flat
from gfm.nets.norms import fused_norms
from gfm.point import Point

__all__ = ["Costs", "Problem"]

_STATEFUL = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@dataclass
class Costs:
    """Derivative evaluations spent so far, each on the full batch; a block product of k vectors counts k."""

    gradients: int = 0
    hvps: int = 0
    thirds: int = 0

    def since(self, before: Costs) -> Costs:
        return Costs(
            self.gradients - before.gradients, self.hvps - before.hvps, self.thirds - before.thirds
        )

    def copy(self) -> Costs:
        return Costs(self.gradients, self.hvps, self.thirds)


class Problem:
    """Full-batch training of a module: value, gradient, Hessian and third derivatives of L(w).

    Args:
        module: any ``torch.nn.Module``; its parameters (one dtype, one device) are the weights.
            It is not changed, and must be in eval mode if it holds dropout or batch norm.
        inputs: ``(n, ...)`` tensor, floating in the module's dtype or integer (tokens).
        targets: ``(n, ...)`` tensor: rows of the outputs' shape, or class indices.
        loss: ``"mse"`` (half the summed square), ``"cross_entropy"``, or a callable
            ``(outputs, targets) -> scalar`` that is a mean over examples.
        batch_size: compute in pieces of this many examples when all do not fit at once; the
            result is the same full-batch loss, but no graph is kept between products.

    Attributes:
        w0: ``(p,)`` the module's own weights, flat. p, n, dtype, device. costs: a ``Costs``.

    Raises:
        InputError: shapes or dtypes that do not fit, NaN or empty data, a module whose loss
            would not be a deterministic smooth function of the weights.
    """

    #: Up to this p * n the k copies of a block product run as one batched network: at such sizes
    #: the time goes into launching operations, not into arithmetic.
    batched_limit = 2_000_000

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        loss: str | Callable[[Tensor, Tensor], Tensor] = "mse",
        *,
        batch_size: int | None = None,
    ):
        if not isinstance(module, nn.Module):
            raise InputError(f"module must be a torch.nn.Module, but it is a {type(module).__name__}")
        self.module = module
        self.flat = Flat(module)
        self.p, self.dtype, self.device = self.flat.p, self.flat.dtype, self.flat.device
        self.costs = Costs()
        _check_module(module)
        _check_data(inputs, targets, self.dtype, self.device)
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise InputError(f"batch_size must be a positive number of examples, but it is {batch_size!r}")
        self.n = inputs.shape[0]
        self.w0 = self.flat.flatten(module)
        if not torch.isfinite(self.w0).all():
            raise InputError("the module's weights contain NaN or infinity; initialise it again")
        self._loss = losses.resolve(loss)
        self.inputs = inputs
        self.targets = self._prepare(inputs, targets)
        self.batch_size = min(batch_size or self.n, self.n)
        self.batched = self.batch_size == self.n and self.p * self.n <= self.batched_limit
        self.chain = Chain.of(module) if self.batch_size == self.n and not self.batched else None

    def _prepare(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Targets in the loss's form, with every failure of module or loss put in one sentence."""
        try:
            with torch.no_grad():
                few = slice(0, min(2, self.n))
                outputs = self.module(inputs[few])
        except (RuntimeError, TypeError, ValueError, IndexError) as failure:
            first = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
            raise InputError(
                f"the module cannot take inputs of shape {tuple(inputs.shape)}: {first}"
            ) from failure
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != inputs[few].shape[:1]:
            raise InputError("the module must return one tensor with one row of outputs per example")
        full = outputs.new_empty((self.n, *outputs.shape[1:]))
        try:
            if isinstance(self._loss, losses._Callable):
                self._loss.prepare(outputs, targets[few])
                return targets
            return self._loss.prepare(full, targets)
        except GfmError:
            raise
        except Exception as failure:
            raise InputError(f"the loss cannot be computed on these targets: {failure}") from failure

    # --- evaluation ---------------------------------------------------------------------------

    def outputs(self, w: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The network's outputs ``(n, ...)`` at weights ``w`` (p,) on ``inputs`` (default: the data)."""
        inputs = self.inputs if inputs is None else inputs
        return torch.func.functional_call(self.module, self.flat.views(w), (inputs,))

    def pieces(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Inputs, targets and weight n_piece / n of each piece of the full batch."""
        for start in range(0, self.n, self.batch_size):
            part = slice(start, start + self.batch_size)
            inputs = self.inputs[part]
            yield inputs, self.targets[part], inputs.shape[0] / self.n

    def piece_loss(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over one piece at ``w`` (p,): a differentiable scalar."""
        return self._loss(self.outputs(w, inputs), targets).mean()

    def at(self, w: Tensor, width: int = 1) -> Point:
        """The problem around ``w`` (p,): loss, gradient and further derivatives on one kept graph.

        ``width`` says how many vectors a block product will take at once.

        Raises:
            InputError: ``w`` has another shape or dtype.
        """
        self._check(w)
        return Point(self, w, width)

    def loss(self, w: Tensor) -> Tensor:
        """L(w): a 0-d tensor without graph."""
        self._check(w)
        with torch.no_grad():
            return sum(share * self.piece_loss(w, x, y) for x, y, share in self.pieces())

    def gradient(self, w: Tensor) -> Tensor:
        """grad L(w), (p,)."""
        self._check(w)
        self.costs.gradients += 1
        w = w.detach().requires_grad_()
        total = None
        for x, y, share in self.pieces():
            part = torch.autograd.grad(self.piece_loss(w, x, y), w)[0]
            total = part * share if total is None else total.add_(part, alpha=share)
        return total

    def hvp(self, w: Tensor, V: Tensor) -> Tensor:
        """H(w) V for V (p,) or (p, k); same shape. For many products at one w use ``at(w)``."""
        rows = self._rows(V)
        product = self.at(w, rows.shape[0]).hvp(rows)
        return product[0] if V.ndim == 1 else product.T

    def third(self, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """D^3 L(w)[u, v]: the gradient (p,) of u^T H(w) v, for u and v (p,)."""
        return self.at(w).third(self._rows(u)[0], self._rows(v)[0])

    def top_eigenpairs(
        self, w: Tensor, k: int, *, tolerance: float | None = None, return_residuals: bool = False
    ) -> tuple[Tensor, ...]:
        """The k largest Hessian eigenvalues (k,), largest first, and eigenvectors (p, k).

        With ``return_residuals`` also |Hv - value v| / max|value| (k,). Cold start (Lanczos).

        Raises:
            InputError: k is not in 1..p. NumericalError: no convergence or no finite products.
        """
        pairs = eigen.lanczos(self.at(w).hvp, self.p, k, like=self.w0, tolerance=tolerance)
        face = (pairs.values, pairs.vectors.T)
        return (*face, pairs.residuals) if return_residuals else face

    # --- the door -----------------------------------------------------------------------------

    def _rows(self, V: Tensor) -> Tensor:
        if V.ndim not in (1, 2) or V.shape[0] != self.p or V.dtype != self.dtype:
            raise InputError(
                f"directions must have shape ({self.p},) or ({self.p}, k) and dtype {self.dtype}, "
                f"but they have shape {tuple(V.shape)} and dtype {V.dtype}"
            )
        return V[None] if V.ndim == 1 else V.T

    def _check(self, w: Tensor) -> None:
        if w.shape != (self.p,) or w.dtype != self.dtype:
            raise InputError(
                f"weights must have shape ({self.p},) and dtype {self.dtype}, "
                f"but they have shape {tuple(w.shape)} and dtype {w.dtype}"
            )


def _check_module(module: nn.Module) -> None:
    random = [name or type(m).__name__ for name, m in module.named_modules() if m.training and isinstance(m, _STATEFUL)]
    if random:
        raise InputError(
            f"the module is in train mode and holds dropout or batch norm ({', '.join(random)}), so its "
            "loss is not a fixed function of the weights; call module.eval() first"
        )
    fused = fused_norms(module)
    if fused:
        raise InputError(
            f"the module holds fused norms ({', '.join(fused)}), whose third derivatives are wrong in "
            "torch; replace them with those of gfm.nets.norms, which are written out"
        )


def _check_data(inputs: Tensor, targets: Tensor, dtype: torch.dtype, device: torch.device) -> None:
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
