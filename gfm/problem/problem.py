"""A training problem: the full-batch loss L(w) of a flat weight vector, with its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gfm.errors import GfmError, InputError, NumericalError
from gfm.linalg import deflation
from gfm.problem import losses, probe
from gfm.problem import supported as door
from gfm.problem.derivatives import Point
from gfm.problem.flat import Flat
from gfm.problem.sequential import Chain

__all__ = ["Costs", "Problem"]

#: So many examples are looked at before the first full-batch evaluation.
_FEW = 4


@dataclass
class Costs:
    """Derivative evaluations spent so far, each on the full batch; a block product of k vectors counts k."""

    gradients: int = 0
    hvps: int = 0
    thirds: int = 0

    def since(self, before: Costs) -> Costs:
        """What was spent after ``before``."""
        return Costs(
            self.gradients - before.gradients, self.hvps - before.hvps, self.thirds - before.thirds
        )

    def copy(self) -> Costs:
        """A copy that later evaluations leave alone."""
        return Costs(self.gradients, self.hvps, self.thirds)


class Problem:
    """Full-batch training of a module: value, gradient, Hessian and third derivatives of L(w).

    Args:
        module: any ``torch.nn.Module``; its parameters (one dtype, one device) are the weights.
            It is not changed, and must be in eval mode if it holds dropout or batch norm.
            Making a problem differentiates it three times on four examples, to see that torch can
            (see ``gfm.problem.probe``): the time of about ten gradients on those.
        inputs: ``(n, ...)`` tensor, floating in the module's dtype or integer (tokens).
        targets: ``(n, ...)`` tensor: rows of the outputs' shape, or class indices. Outputs ``(n,)`` are
            one output an example.
        loss: ``"mse"`` (half the summed square), ``"cross_entropy"``, or a callable
            ``(outputs, targets) -> scalar`` that is a mean over examples.
        batch_size: compute in pieces of this many examples when all do not fit at once; the
            result is the same full-batch loss, but no graph is kept between products.

    Attributes:
        w0: ``(p,)`` the module's own weights, flat. p, n, dtype, device. costs: a ``Costs``.

    Raises:
        InputError: shapes or dtypes that do not fit, NaN or empty data, a module whose loss
            would not be a deterministic smooth function of the weights, or whose second or third
            derivatives torch gets wrong.

    Example:
        >>> line = nn.Linear(1, 1, bias=False).double()
        >>> x = torch.ones(5, 1, dtype=torch.float64)
        >>> problem = Problem(line, x, 3.0 * x)  # L(w) = (w - 3)^2 / 2
        >>> w = torch.tensor([1.0], dtype=torch.float64)
        >>> problem.loss(w).item(), problem.gradient(w).item(), problem.hvp(w, torch.ones_like(w)).item()
        (2.0, -2.0, 1.0)
    """

    #: Up to this p * n the k copies of a block product run as one batched network: at such sizes
    #: the time goes into launching operations, not into arithmetic.
    batched_limit = 2_000_000
    #: Up to this p the first look at a float32 module is taken in float64, where it also judges third derivatives.
    exact_limit = 2_000_000

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
        door.check_module(module)
        door.check_data(inputs, targets, self.dtype, self.device)
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise InputError(f"batch_size must be a positive number of examples, but it is {batch_size!r}")
        self.n = inputs.shape[0]
        self.w0 = self.flat.flatten(module)
        if not torch.isfinite(self.w0).all():
            raise InputError("the module's weights contain NaN or infinity; initialise it again")
        self.row_loss = losses.resolve(loss)
        self.inputs = inputs
        self.batch_size = min(batch_size or self.n, self.n)
        self._plain_attention = False
        self.targets = self._prepare(inputs, targets)
        self._verify()
        self.batched = self.batch_size == self.n and self.p * self.n <= self.batched_limit
        self.chain = Chain.of(module) if self.batch_size == self.n and not self.batched else None

    def _prepare(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Targets in the loss's form, with every failure of module or loss put in one sentence."""
        few = slice(0, min(_FEW, self.n))
        try:
            with torch.no_grad(), probe.same_random_numbers(self.device):
                outputs, again = self.module(inputs[few]), self.module(inputs[few])
                if not inputs.is_floating_point():  # every token must have its place
                    for part in inputs.split(self.batch_size):
                        self.module(part)
        except Exception as failure:
            raise InputError(
                f"the module cannot take inputs of shape {tuple(inputs.shape)}: {probe.sentence(failure)}"
            ) from failure
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != inputs[few].shape[:1]:
            raise InputError("the module must return one tensor with one row of outputs per example")
        if not torch.allclose(outputs, again, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise InputError(
                "the module gives other outputs each time it sees the same inputs (dropout?), so its loss is not a "
                "fixed function of the weights; call module.eval() first or take the randomness out"
            )
        full = outputs.new_empty((self.n, *outputs.shape[1:]))
        try:
            if isinstance(self.row_loss, losses.CallableLoss):
                self.row_loss.prepare(outputs, targets[few])
                return targets
            return self.row_loss.prepare(full, targets)
        except GfmError:
            raise
        except Exception as failure:
            raise InputError(f"the loss cannot be computed on these targets: {probe.sentence(failure)}") from failure

    def _verify(self) -> None:
        """Second and third derivatives on a few examples, in float64 where module and loss can.

        Above ``exact_limit`` a float32 module is looked at in float32, and its third derivatives are not.
        """
        few = slice(0, min(_FEW, self.n))
        inputs, targets = self.inputs[few], self.targets[few]
        buffers = dict(self.module.named_buffers())

        def exact(tensor: Tensor) -> Tensor:
            return tensor.double() if tensor.is_floating_point() else tensor

        def loss_in_double(w: Tensor) -> Tensor:
            values = {**{name: exact(b) for name, b in buffers.items()}, **self.flat.views(w)}
            with self._attention():
                outputs = torch.func.functional_call(self.module, values, (exact(inputs),))
            return self.row_loss(outputs, exact(targets)).mean()

        def loss(w: Tensor) -> Tensor:
            return self.piece_loss(w, inputs, targets)

        with probe.same_random_numbers(self.device):
            try:
                value = loss(self.w0.clone().requires_grad_())
            except Exception as failure:
                raise InputError(f"the loss cannot be computed: {probe.sentence(failure)}") from failure
            if not value.requires_grad:
                raise InputError(
                    "the loss does not depend on the module's weights: its outputs are detached or computed without "
                    "gradients; take the detach() or no_grad() out of its forward"
                )
            kind = self.dtype
            if self.dtype == torch.float32 and self.p <= self.exact_limit:
                try:
                    with torch.no_grad():
                        kind = loss_in_double(self.w0.double()).dtype
                except Exception:  # it computes in its own dtype only
                    pass
            examined = loss_in_double if kind != self.dtype else loss
            try:
                try:
                    probe.check(examined, self.w0.to(kind))
                except (RuntimeError, NotImplementedError) as failure:
                    if "attention" not in str(failure):
                        raise
                    self._plain_attention = True  # torch's fast kernels for attention are differentiable once only
                    probe.check(examined, self.w0.to(kind))
            except GfmError:
                raise
            except Exception as failure:
                raise InputError(
                    f"the loss cannot be differentiated often enough: {probe.sentence(failure)}"
                ) from failure

    def _attention(self) -> AbstractContextManager:
        return sdpa_kernel(SDPBackend.MATH) if self._plain_attention else nullcontext()

    # --- evaluation ---------------------------------------------------------------------------

    def outputs(self, w: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The network's outputs ``(n, ...)`` at weights ``w`` (p,) on ``inputs`` (default: the data)."""
        inputs = self.inputs if inputs is None else inputs
        if not self._plain_attention:
            return torch.func.functional_call(self.module, self.flat.views(w), (inputs,))
        with self._attention():
            return torch.func.functional_call(self.module, self.flat.views(w), (inputs,))

    def pieces(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        """Inputs, targets and weight n_piece / n of each piece of the full batch."""
        for start in range(0, self.n, self.batch_size):
            part = slice(start, start + self.batch_size)
            inputs = self.inputs[part]
            yield inputs, self.targets[part], inputs.shape[0] / self.n

    def piece_loss(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over one piece at ``w`` (p,): a differentiable scalar."""
        return self.row_loss(self.outputs(w, inputs), targets).mean()

    def at(self, w: Tensor, width: int = 1) -> Point:
        """The problem around ``w`` (p,): loss, gradient and further derivatives on one kept graph.

        ``width``: vectors that a block product will take at once. ``w`` may not change in place meanwhile.

        Raises:
            InputError: ``w`` has another shape or dtype.
        """
        self.check(w)
        return Point(self, w, width)

    def loss(self, w: Tensor) -> Tensor:
        """L(w): a 0-d tensor without graph."""
        self.check(w)
        with torch.no_grad():
            parts = (share * self.piece_loss(w, x, y) for x, y, share in self.pieces())
            return reduce(torch.add, parts)

    def gradient(self, w: Tensor) -> Tensor:
        """Grad L(w), (p,)."""
        self.check(w)
        self.costs.gradients += 1
        w = w.detach().requires_grad_()
        total: Tensor | None = None
        for x, y, share in self.pieces():
            part = torch.autograd.grad(self.piece_loss(w, x, y), w)[0]
            total = part * share if total is None else total.add_(part, alpha=share)
        assert total is not None  # there is an example
        return total

    def hvp(self, w: Tensor, V: Tensor) -> Tensor:
        """H(w) V for V (p,) or (p, k); same shape. For many products at one w use ``at(w)``."""
        rows = self._rows(V)
        product = self.at(w, rows.shape[0]).hvp(rows)
        return product[0] if V.ndim == 1 else product.T

    def third(self, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """D^3 L(w)[u, v]: the gradient (p,) of u^T H(w) v, for u and v (p,)."""
        for vector in (u, v):
            self._rows(vector)
            if vector.ndim != 1:
                raise InputError(
                    f"third takes two vectors of shape ({self.p},), but one has shape {tuple(vector.shape)}; "
                    "call it for each pair"
                )
        return self.at(w).third(u, v)

    def top_eigenpairs(
        self, w: Tensor, k: int, *, tolerance: float | None = None, return_residuals: bool = False
    ) -> tuple[Tensor, ...]:
        """The k largest Hessian eigenvalues (k,), largest first, and eigenvectors (p, k).

        With ``return_residuals`` also ``|Hv - value v| / max|value|`` (k,). Cold start.

        Raises:
            InputError: k is not in 1..p. NumericalError: no convergence or no finite products.
        """
        if isinstance(k, bool) or not isinstance(k, int):
            raise InputError(f"the number of eigenpairs must be a whole number in 1..{self.p}, but it is {k!r}")
        self.check(w)
        if not torch.isfinite(w).all():
            raise NumericalError("the weights contain NaN or infinity, so the Hessian has no eigenpairs there")
        try:
            pairs = deflation.largest(self.at(w).hvp, self.p, k, like=self.w0, tolerance=tolerance)
        except torch.linalg.LinAlgError as failure:
            raise NumericalError("the Hessian has no finite eigenpairs here; the weights have diverged") from failure
        face = (pairs.values, pairs.vectors.T)
        return (*face, pairs.residuals) if return_residuals else face

    # --- the door -----------------------------------------------------------------------------

    def _rows(self, V: Tensor) -> Tensor:
        if not isinstance(V, Tensor):
            raise InputError(f"directions must be a torch tensor, but they are a {type(V).__name__}")
        if V.ndim not in (1, 2) or V.shape[0] != self.p or V.dtype != self.dtype:
            raise InputError(
                f"directions must have shape ({self.p},) or ({self.p}, k) and dtype {self.dtype}, "
                f"but they have shape {tuple(V.shape)} and dtype {V.dtype}"
            )
        return V[None] if V.ndim == 1 else V.T

    def check(self, w: Tensor) -> None:
        """Raise InputError unless ``w`` is a weight vector (p,) of the problem's dtype."""
        if not isinstance(w, Tensor):
            raise InputError(f"weights must be a torch tensor, but they are a {type(w).__name__}")
        if w.shape != (self.p,) or w.dtype != self.dtype:
            raise InputError(
                f"weights must have shape ({self.p},) and dtype {self.dtype}, "
                f"but they have shape {tuple(w.shape)} and dtype {w.dtype}"
            )
