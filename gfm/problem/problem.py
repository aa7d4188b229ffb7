"""A training problem: the full-batch loss L(w) of a flat weight vector, with its derivatives."""

from collections.abc import Callable, Iterator
from math import inf

import torch
from torch import Tensor, nn

from gfm.autograd import ordinary, with_gradients
from gfm.checks import number, whole
from gfm.errors import InputError, NumericalError
from gfm.linalg import deflation
from gfm.problem import derivative_check, losses, supported, trials
from gfm.problem.costs import Costs
from gfm.problem.derivatives import Derivatives, plus
from gfm.problem.feed_forward import FeedForward
from gfm.problem.flat import Flat
from gfm.problem.objective import Objective, Output, Penalty

__all__ = ["Problem"]

#: Number of examples on which a problem is checked before the first full-batch evaluation.
_FEW = 4


class Problem:
    """Full-batch training of a module: value, gradient, Hessian and third derivatives of L(w).

    Args:
        module: any ``torch.nn.Module``; its parameters (one dtype, one device) are the weights.
            It is not changed, and must be in eval mode if it contains dropout or batch norm; later changes of its
            mode or buffers do not matter. A compiled or data-parallel module is replaced by the one inside.
            Derivatives up to the third are checked on four examples, at the cost of about thirty gradients of their
            loss, and the first on all, at the cost of about five gradients (see ``gfm.problem.derivative_check``).
        inputs: ``(n, ...)`` tensor, floating in the module's dtype or integer (tokens).
        targets: ``(n, ...)`` tensor: rows of the outputs' shape, or class indices. Outputs of shape ``(n,)`` mean
            one output per example.
        loss: ``"mse"`` (half the summed square), ``"cross_entropy"``, one of ``gfm.losses``, or a callable of
            ``(outputs, targets)`` that returns the mean over examples, or the loss of each example ``(n,)``. It may
            read the module's parameters or call the module; it then sees the weights at which L is evaluated.
        batch_size: compute in pieces of this many examples if all do not fit at once; the
            result is the same full-batch loss, but no graph is kept between products.
        penalty: a function of the trainable parameters (a mapping from names to tensors) whose scalar value is added
            to the loss.
        weight_decay: a number c of at least 0; ``c |w|^2 / 2`` is added to the loss.
        output: where the module's result is not a tensor, the part that holds the outputs: a key or attribute, a
            place in a tuple, or a function of the result.
        loss_weight: with ``batch_size``, for a callable loss that is not a plain mean over examples: a function from
            targets ``(m, ...)`` to the weight of these m examples in the mean, for example the number of tokens that
            count. ``nn.CrossEntropyLoss`` and ``nn.NLLLoss`` need none.

    Attributes:
        w0: ``(p,)`` the module's own weights, flat.
        p, n: the numbers of weights and of examples.
        dtype, device: those of the weights.
        costs: a ``Costs``.

    Raises:
        InputError: Shapes or dtypes do not fit, data are empty or contain NaN, the module's loss is not a
            deterministic smooth function of the weights, torch computes one of its first three derivatives wrongly,
            or a loss taken in pieces is not the loss of the whole.

    Example:
        >>> line = nn.Linear(1, 1, bias=False).double()
        >>> x = torch.ones(5, 1, dtype=torch.float64)
        >>> problem = Problem(line, x, 3.0 * x)  # L(w) = (w - 3)^2 / 2
        >>> w = torch.tensor([1.0], dtype=torch.float64)
        >>> problem.loss(w).item(), problem.gradient(w).item(), problem.hvp(w, torch.ones_like(w)).item()
        (2.0, -2.0, 1.0)
    """

    #: Up to this p * n the k copies of a block product run as one batched network: at such sizes
    #: launching operations takes more time than arithmetic.
    batched_limit = 2_000_000
    #: Up to this p a float32 module is checked in float64.
    exact_limit = 2_000_000

    @with_gradients
    def __init__(
        self, module: nn.Module, inputs: Tensor, targets: Tensor,
        loss: str | losses.Loss | Callable[[Tensor, Tensor], Tensor] = "mse", *, batch_size: int | None = None,
        penalty: Penalty | None = None, weight_decay: float = 0.0, output: Output | None = None,
        loss_weight: Callable[[Tensor], float | Tensor] | None = None,
    ):
        self.module = module = supported.unwrapped(module)
        self.flat = Flat(module)
        self.p, self.dtype, self.device = self.flat.p, self.flat.dtype, self.flat.device
        self.costs = Costs()
        supported.check_module(module)
        supported.check_data(inputs, targets, self.dtype, self.device)
        if penalty is not None and not callable(penalty):
            raise InputError(f"penalty must be a function of the parameters by name, but it is {penalty!r}.")
        weight_decay = number("weight_decay", weight_decay, lambda c: 0 <= c < inf, "a number of at least 0")
        self.n = inputs.shape[0]
        self.batch_size = self.n if batch_size is None else min(whole("batch_size", batch_size, 1), self.n)
        self.w0 = self.flat.flatten(module)
        if not torch.isfinite(self.w0).all():
            raise InputError("The module's weights contain NaN or infinity; initialise it again.")
        self.row_loss = losses.resolve(loss, loss_weight)
        self.objective = Objective(module, self.flat, self.row_loss, penalty, weight_decay, output)
        self.inputs = ordinary(inputs)
        self.targets = supported.prepared_targets(
            self.objective, self.w0, self.inputs, ordinary(targets), few=_FEW, batch_size=self.batch_size
        )
        self._versions = (self.inputs._version, self.targets._version)
        whole_batch = self.batch_size == self.n
        self.batched = False
        self.feed_forward: FeedForward | None = None
        #: The dtype in which the derivatives were examined.
        self.examined = derivative_check.check_problem(self, _FEW)
        if not whole_batch:
            supported.check_pieces(self)
        derivative_check.check_whole(self)
        if whole_batch and output is None:
            self.feed_forward = trials.as_feed_forward(self)
        self.batched = whole_batch and self.p * self.n <= self.batched_limit and (
            self.feed_forward is not None or trials.many_vectors(self)
        )
        self.costs = Costs()

    def outputs(self, w: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The network's outputs ``(n, ...)`` at weights ``w`` (p,) on ``inputs`` (default: the data)."""
        self.check(w)
        with supported.explained("The module cannot take these inputs"):
            return self.objective.outputs(w, self.inputs if inputs is None else inputs)

    def pieces(self, examples: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, float]]:
        """The pieces of the data, or of the ``examples`` (m,) by number.

        Yields:
            Inputs, targets and share in the loss of each piece. The shares add up to 1; a piece of m of n examples has
            m / n, unless the loss weights examples otherwise.

        Raises:
            InputError: The data were changed in place since the problem was made.
        """
        if (self.inputs._version, self.targets._version) != self._versions:
            raise InputError("The data were changed in place since the problem was made; make a new problem.")
        inputs = self.inputs if examples is None else self.inputs[examples]
        targets = self.targets if examples is None else self.targets[examples]
        if len(inputs) <= self.batch_size:
            yield inputs, targets, 1.0
            return
        parts = targets.split(self.batch_size)
        weights = [self.row_loss.weight(part) for part in parts]
        total = sum(weights)
        for part, y, weight in zip(inputs.split(self.batch_size), parts, weights, strict=True):
            if weight:
                yield part, y, weight / total

    def piece_loss(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of one piece at ``w`` (p,), with penalty and weight decay: a differentiable scalar."""
        return self.objective(w, inputs, targets)

    def at(self, w: Tensor, width: int = 1) -> Derivatives:
        """The loss's derivatives at ``w`` (p,); a kept graph has ``width`` copies of the weights for block products.

        ``w`` must not be changed in place while they are used.

        Raises:
            InputError: ``w`` has another shape or dtype.
        """
        self.check(w)
        return Derivatives(self, w, width)

    def loss(self, w: Tensor) -> Tensor:
        """L(w), a 0-d tensor without a gradient graph."""
        return self._sums(w, gradient=False)[0]

    def gradient(self, w: Tensor) -> Tensor:
        """The gradient of L at ``w``, (p,)."""
        return self.value_and_gradient(w)[1]

    def value_and_gradient(self, w: Tensor, examples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """L(w), 0-d, and grad L(w), (p,), both without a gradient graph, at ``w`` (p,).

        With ``examples`` (m,), whole numbers, both are those of the loss on these examples only.

        Raises:
            InputError: ``w`` or ``examples`` does not fit.
        """
        if examples is not None and not (
            isinstance(examples, Tensor) and examples.ndim == 1 and len(examples) and examples.dtype == torch.long
            and -self.n <= int(examples.min()) and int(examples.max()) < self.n
        ):
            raise InputError(f"examples must be a tensor of whole numbers (torch.long) below {self.n}, at least one.")
        self.costs.gradients += 1 if examples is None else len(examples) / self.n
        value, slope = self._sums(w, examples=examples)
        assert slope is not None
        return value, slope

    @with_gradients
    def _sums(
        self, w: Tensor, *, gradient: bool = True, examples: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The loss and, if wanted, its gradient, summed over the pieces."""
        self.check(w)
        # The loss alone is computed on a graph too: without one, a module may take other kernels.
        w = ordinary(w).detach().requires_grad_()
        total: Tensor | None = None
        slope: Tensor | None = None
        for inputs, targets, share in self.pieces(examples):
            value = self.piece_loss(w, inputs, targets)
            if gradient:
                slope = plus(slope, torch.autograd.grad(value, w)[0], share)
            total = plus(total, value.detach(), share)
        assert total is not None  # there is an example
        return total, slope

    def hvp(self, w: Tensor, V: Tensor) -> Tensor:
        """H(w) V for V (p,) or (p, k), of the same shape. For many products at one w use ``at(w)``.

        Raises:
            InputError: ``w`` or V is not a tensor, or has another shape or dtype.
        """
        if not isinstance(V, Tensor) or V.ndim != 2:
            self.check(V, "The direction")
        elif V.shape[0] != self.p or V.dtype != self.dtype:
            raise InputError(
                f"Directions must have shape ({self.p}, k) and dtype {self.dtype}, "
                f"but they have shape {tuple(V.shape)} and dtype {V.dtype}."
            )
        rows = V[None] if V.ndim == 1 else V.T
        product = self.at(w, rows.shape[0]).hvp(rows)
        return product[0] if V.ndim == 1 else product.T

    def third(self, w: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """D^3 L(w)[u, v], the gradient (p,) of u^T H(w) v, for u and v (p,).

        Raises:
            InputError: ``w``, u or v has another shape or dtype.
        """
        self.check(u, "u")
        self.check(v, "v")
        return self.at(w).third(u, v)

    def top_eigenpairs(self, w: Tensor, k: int, *, tolerance: float | None = None) -> tuple[Tensor, Tensor]:
        """The k largest Hessian eigenvalues (k,), largest first, and eigenvectors (p, k).

        The solver starts from random vectors.

        Raises:
            InputError: k is not in 1..p.
            NumericalError: Weights or products are not finite, or the solver does not converge.
        """
        k = whole("The number of eigenpairs", k, 1)
        self.check(w)
        if not torch.isfinite(w).all():
            raise NumericalError("The weights contain NaN or infinity, so the Hessian has no eigenpairs there.")
        try:
            pairs = deflation.largest(self.at(w).hvp, self.p, k, like=self.w0, tolerance=tolerance)
        except torch.linalg.LinAlgError as failure:
            raise NumericalError("The Hessian has no finite eigenpairs here; the weights have diverged.") from failure
        return pairs.values, pairs.vectors.T

    def check(self, w: Tensor, name: str = "The weight vector") -> None:
        """Check that a vector, called ``name`` in messages, has shape (p,) and the problem's dtype and device.

        Raises:
            InputError: It is not a tensor, or has another shape or dtype.
        """
        if not isinstance(w, Tensor):
            raise InputError(f"{name} must be a torch tensor, but it is a {type(w).__name__}.")
        if w.device != self.device or w.layout != torch.strided:
            raise InputError(f"{name} is {w.layout} on {w.device}, but the module is dense and on {self.device}.")
        if w.shape != (self.p,) or w.dtype != self.dtype:
            raise InputError(
                f"{name} must have shape ({self.p},) and dtype {self.dtype}, "
                f"but it has shape {tuple(w.shape)} and dtype {w.dtype}."
            )
