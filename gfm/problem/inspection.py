"""What evaluating a loss reveals: whether it is a fixed function of the weights, and of what operations it consists."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gfm.errors import InputError

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["KINKS", "WRONG", "Loss", "fixed_value", "gradient_and_rerun", "narrowest", "operations", "seen"]

Loss = Callable[[Tensor], Tensor]
#: Nodes of torch's graph whose derivatives of some order are missing or wrong, or which hide weights.
_SUSPECTS = ("LayerNorm", "GroupNorm", "BatchNorm", "InstanceNorm", "RmsNorm", "WeightNorm", "Attention", "Checkpoint")
#: The ones known to be wrong even where finite differences cannot show it.
WRONG = ("NativeLayerNorm", "NativeBatchNorm", "WeightNorm")
#: Nodes of functions that are not smooth.
KINKS = (
    "Relu", "Abs", "MaxPool", "Hard", "Clamp", "Threshold", "Elu", "Maximum", "Minimum", "Amax", "Amin", "MaxBackward",
    "MinBackward", "Where", "SmoothL1", "Huber", "L1Loss", "Softshrink", "Sort", "Topk", "Kthvalue", "Median", "Margin",
)


def fixed_value(problem: "Problem", loss: Loss, leaf: Tensor) -> Tensor:
    """The loss (0-d) at the leaf (p,), after checking that it is the same at each call and depends on this leaf alone.

    Raises:
        InputError: It draws random numbers, changes from call to call, or reaches weights kept from before.
    """
    state = torch.get_rng_state()
    before, value = loss(leaf.detach().clone().requires_grad_()).detach(), loss(leaf)
    if not torch.equal(torch.get_rng_state(), state):
        raise InputError(
            "The module or its loss draws random numbers, so the loss is not a fixed function of the weights; call "
            "module.eval() first or take the randomness out."
        )
    tolerance = 1e-10 if leaf.dtype == torch.float64 else 1e-5
    if not torch.allclose(before, value.detach(), rtol=tolerance, atol=0, equal_nan=True):
        raise InputError(
            f"The loss of the same examples is {float(before):.8g} and then {float(value.detach()):.8g}, so it is no "
            "fixed function of the weights: module or loss keep something from call to call."
        )
    names = {id(q): name for name, q in problem.module.named_parameters()}
    for node in _nodes(value):
        found = getattr(node, "variable", None)
        if found is None or found is leaf:
            continue
        if id(found) in names:
            raise InputError(
                f"Module, loss or penalty use the parameter {names[id(found)]} as an object that was kept from before, "
                "so they do not see other weights; read it from the module in every call."
            )
        if found.shape == leaf.shape and torch.equal(found.detach(), leaf.detach()):
            raise InputError(
                "Module or loss keep a tensor that was computed from the weights of an earlier call; compute it anew."
            )
    return value


def _nodes(value: Tensor) -> set:
    """The nodes of a tensor's graph."""
    todo, done = [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in done:
            done.add(node)
            todo += [following for following, _ in node.next_functions]
    return done


def gradient_and_rerun(value: Tensor, leaf: Tensor) -> tuple[Tensor, str]:
    """The gradient (p,), and the kind of the first layer that runs again while it is computed ('' if none does)."""
    run: list[str] = []
    hook = register_module_forward_pre_hook(lambda layer, _: run.append(type(layer).__name__))
    try:
        (slope,) = torch.autograd.grad(value, leaf)
    finally:
        hook.remove()
    return slope, run[0] if run else ""


class _Narrowed(TorchDispatchMode):
    """Records the floating dtypes of results that are narrower than the tensors from which they were computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t.dtype.itemsize for t in tree_leaves((args, kwargs)) if _floating(t)]
        self.seen |= {t.dtype for t in tree_leaves(out) if _floating(t) and given and t.dtype.itemsize < max(given)}
        return out


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def narrowest(loss: Loss, w: Tensor) -> torch.dtype:
    """The narrowest dtype that occurs while the loss is computed from w (p,)."""
    with _Narrowed() as found:
        value = loss(w.detach().clone().requires_grad_())
    return min({w.dtype, value.dtype} | found.seen, key=lambda dtype: dtype.itemsize)


def operations(value: Tensor) -> set[str]:
    """The names of the operations in the graph of a tensor of any shape."""
    return {type(node).__name__ for node in _nodes(value)}


def seen(loss: Loss, w: Tensor) -> str:
    """Words for a message on the graph of a loss of w (p,): fused operations, and layers without gradients."""
    hidden: list[str] = []
    hook = register_module_forward_pre_hook(
        lambda layer, _: None if torch.is_grad_enabled() else hidden.append(type(layer).__name__)
    )
    try:
        names = operations(loss(w.clone().requires_grad_()))
    finally:
        hook.remove()
    found = sorted(name.rstrip("0").removesuffix("Backward") for name in names if any(s in name for s in _SUSPECTS))
    told = [f"its graph contains {', '.join(found)}"] if found else []
    if hidden:
        told.append(f"its forward pass runs {hidden[0]} without gradients")
    advice = "; write it out in plain tensor operations (gfm.nets.norms has the norms)" if found else ""
    return f" ({' and '.join(told)}){advice}" if told else ""
