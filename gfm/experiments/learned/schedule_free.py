"""Schedule-free AdamW, which averages its iterates instead of lowering the learning rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = ["ScheduleFree"]


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), without warm-up.

    The module holds y = (1 - beta) z + beta x, at which gradients are taken; z <- z - lr g / (sqrt(v) + eps), and x is
    the mean of all z so far, at which a run is to be evaluated (:meth:`averages`).

    Args:
        params: the parameters.
        lr: learning rate.
        beta: share of the mean in y.
        second: decay rate of the mean square v, whose bias from the start at zero is corrected.
        eps: added to its root.
        weight_decay: decoupled, at y.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, beta: float = 0.9, second: float = 0.999, eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "second": second, "eps": eps, "weight_decay": weight_decay})
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; a closure is called first, as in torch's optimizers."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps += 1
        for group in self.param_groups:
            beta, second, lr = group["beta"], group["second"], group["lr"]
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if not state:
                    state.update(z=y.clone(), x=y.clone(), v=torch.zeros_like(y))
                z, x, v = state["z"], state["x"], state["v"]
                v.mul_(second).addcmul_(y.grad, y.grad, value=1 - second)
                root = (v / (1 - second**self.steps)).sqrt_().add_(group["eps"])
                z.sub_(lr * (y.grad / root + group["weight_decay"] * y))
                x.lerp_(z, 1 / self.steps)
                y.copy_(torch.lerp(z, x, beta))
        return loss

    def averages(self) -> list[torch.Tensor]:
        """The means x of all parameters, in their shapes; before the first step the parameters themselves."""
        return [self.state[y].get("x", y.detach()) for group in self.param_groups for y in group["params"]]
