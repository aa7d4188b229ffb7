"""The loss of given examples as a function of the weights.

Outputs, loss and penalty are computed while the module holds the given weights, so that a loss that reads
``module.parameters()`` or calls the module a second time also sees them. Buffers, frozen parameters and the modes of
all layers are those that the module had when the problem was made; later changes have no effect.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gfm.autograd import ordinary
from gfm.errors import InputError
from gfm.problem.flat import Flat
from gfm.problem.losses import CallableLoss, Loss

__all__ = ["Objective", "Output", "Penalty"]

#: A function of the trainable parameters by name, to a scalar.
Penalty = Callable[[Mapping[str, Tensor]], Tensor]
#: Selects the outputs in a module's result: a key or attribute, a position, or a function of the result.
Output = str | int | Callable[[Any], Tensor]


class _Inside(nn.Module):
    """Module, loss and penalty as one module, whose forward pass runs with the weights in place."""

    def __init__(self, module: nn.Module, loss: Loss, penalty: Penalty | None, output: Output | None):
        super().__init__()
        self.module = module
        self.loss, self.penalty, self.output = loss, penalty, output
        function = loss.function if isinstance(loss, CallableLoss) else None
        self.function = function if isinstance(function, nn.Module) else None  # a submodule, so that it is cast

    def forward(self, inputs: Tensor, targets: Tensor | None, weights: dict[str, Tensor]) -> Tensor:
        outputs = selected(self.module(inputs), self.output)
        if targets is None:
            return outputs
        value = self.loss(outputs, targets).mean()
        if self.penalty is None:
            return value
        extra = self.penalty(weights)
        if not isinstance(extra, Tensor) or extra.numel() != 1:
            raise InputError(f"The penalty must return a scalar tensor, but it returns {extra!r:.60}.")
        return value + extra.reshape(())


class Objective:
    """L(w) of given examples: the mean loss, the penalty, and half the weight decay times the squared norm of w.

    Args:
        module: computes the outputs.
        flat: the map of its weights.
        loss, penalty, weight_decay, output: as in ``gfm.Problem``.

    Attributes:
        plain_attention: whether attention is computed by plain products; torch's fast kernels can be differentiated
            only once.
    """

    def __init__(
        self, module: nn.Module, flat: Flat, loss: Loss, penalty: Penalty | None, weight_decay: float,
        output: Output | None,
    ):
        self.flat, self.loss, self.weight_decay = flat, loss, weight_decay
        self._inside = _Inside(module, loss, penalty, output)
        self._names = [f"module.{name}" for name in flat.names]
        self._buffers = {name: ordinary(b.detach()).clone() for name, b in self._inside.named_buffers()}
        self._written = frozenset(self._buffers)
        self._frozen = {
            name: ordinary(q.detach()).clone()
            for name, q in self._inside.named_parameters() if name not in set(self._names)
        }
        self._modes = [(layer, layer.training) for layer in self._inside.modules()]
        self._layers = [id(layer) for layer, _ in self._modes]
        self.plain_attention = False

    def __call__(self, w: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """L at ``w`` (p,) on these examples: a differentiable scalar, in the dtype of ``w``."""
        value = self._run(w, inputs, targets)
        return value + 0.5 * self.weight_decay * (w * w).sum() if self.weight_decay else value

    def outputs(self, w: Tensor, inputs: Tensor) -> Tensor:
        """The module's outputs (n, ...) at ``w`` (p,)."""
        return self._run(w, inputs, None)

    def _run(self, w: Tensor, inputs: Tensor, targets: Tensor | None) -> Tensor:
        weights = self.flat.views(w)
        # A buffer into which the module writes is copied for every call, so that all calls start from the same values.
        tensors = {name: b.clone() if name in self._written else b for name, b in self._buffers.items()}
        tensors.update(self._frozen)
        tensors.update(zip(self._names, weights.values(), strict=True))
        with ExitStack() as stack:
            if w.dtype != self.flat.dtype:
                tensors = {name: _cast(tensor, w.dtype) for name, tensor in tensors.items()}
                inputs = _cast(inputs, w.dtype)
                targets = None if targets is None else _cast(targets, w.dtype)
                stack.enter_context(_default_dtype(w.dtype))
            stack.enter_context(self._as_found())
            return torch.func.functional_call(self._inside, tensors, (inputs, targets, weights))

    def settle(self, w: Tensor, inputs: Tensor, targets: Tensor) -> None:
        """Find the buffers into which module and loss write, by one evaluation at ``w`` (p,)."""
        copies = {name: b.clone() for name, b in self._buffers.items()}
        before, self._buffers = self._buffers, copies
        start = {name: b._version for name, b in copies.items()}
        self._written = frozenset()
        try:
            self._run(w.detach().clone().requires_grad_(), inputs, targets)
        finally:
            self._buffers = before
        self._written = frozenset(name for name, b in copies.items() if b._version != start[name])

    def check_weights_kept(self, w: Tensor, inputs: Tensor) -> None:
        """Check that the module does not change its weights (p,) in the forward pass on inputs (n, ...).

        Raises:
            InputError: The forward pass changes the weights.
        """
        w = w.detach().clone()
        with torch.no_grad():
            self._run(w, inputs, None)
        if w._version:
            raise InputError(
                "The module changes its own weights in the forward pass, so its loss is not a function of the weights "
                "that it is given; take that out of its forward."
            )

    @contextmanager
    def _as_found(self) -> Iterator[None]:
        """Context with the layers' original modes, and with the same attention kernels with and without a graph."""
        if [id(layer) for layer in self._inside.modules()] != self._layers:
            raise InputError("Layers of the module were exchanged since the problem was made; make a new problem.")
        changed = [layer for layer, training in self._modes if layer.training is not training]
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        for layer in changed:
            layer.training = not layer.training
        try:
            with sdpa_kernel(SDPBackend.MATH) if self.plain_attention else nullcontext():
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for layer in changed:
                layer.training = not layer.training

    def loss_reads_weights(self, w: Tensor, inputs: Tensor, targets: Tensor) -> bool:
        """Whether the loss depends on the weights (p,) other than through the outputs, on these examples (n, ...)."""
        inside = self._inside
        if inside.penalty is not None:
            return True
        outputs = self.outputs(w, inputs).detach()
        module, inside.module = inside.module, _Returns(inside.module, outputs)
        try:
            names = [name.replace("module.", "module.module.", 1) for name in self._names]
            weights = self.flat.views(w.detach().clone().requires_grad_())
            tensors = dict(zip(names, weights.values(), strict=True))
            return torch.func.functional_call(inside, tensors, (inputs, targets, weights)).requires_grad
        finally:
            inside.module = module


class _Returns(nn.Module):
    """A stand-in for a module that returns known outputs."""

    def __init__(self, module: nn.Module, outputs: Tensor):
        super().__init__()
        self.module, self.outputs = module, outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outputs


def selected(result: Any, output: Output | None) -> Tensor:
    """The outputs (n, ...) among what a module returned.

    Raises:
        InputError: The result is no tensor and ``output`` is not given, or does not name a tensor of it.
    """
    if output is None:
        if isinstance(result, Tensor):
            return result
        raise InputError(f"The module returns {_described(result)}, not a tensor; {_advice(result)}.")
    try:
        if callable(output):
            found = output(result)
        elif isinstance(output, str) and not isinstance(result, Mapping):
            found = getattr(result, output)
        else:
            found = result[output]
    except (AttributeError, IndexError, KeyError, TypeError) as failure:
        raise InputError(
            f"output={output!r} is not part of what the module returns, which is {_described(result)}."
        ) from failure
    if not isinstance(found, Tensor):
        raise InputError(f"output={output!r} selects {_described(found)} of the module's result, not a tensor.")
    return found


def _described(result: Any) -> str:
    if isinstance(result, Tensor):
        return f"a tensor of shape {tuple(result.shape)}"
    if isinstance(result, Mapping):
        return f"a {type(result).__name__} with {', '.join(map(repr, result)) or 'nothing in it'}"
    if isinstance(result, (tuple, list)):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a {type(result).__name__}"


def _advice(result: Any) -> str:
    if isinstance(result, Mapping):
        first = next((key for key, value in result.items() if isinstance(value, Tensor)), "...")
        return f"name the outputs with output=, for example output={first!r}"
    if isinstance(result, (tuple, list)):
        return "say which entry holds the outputs, for example output=0"
    return "give output=, a function that takes the outputs from it"


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
