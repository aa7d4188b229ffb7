"""The network of gradient flow matching: the gradient of a weight as a function of its place, time and context.

    g(x, t | c) = kappa(t, c) x - b(t, c)

The sum of a linear layer and a perceptron maps the context to kappa and b (and to q, the squared gradient, if the
optimizer averages squares) at a few times, between which they are interpolated. So a forecast needs one pass of the
network for each weight, however many steps the flow is integrated over.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfm.nets.mlp import mlp
from gfm.randomness import seeding

__all__ = ["LEAST", "STATES", "NetworkField", "numbers_in", "perceptron"]

STATES = ("linear", "restoring", "none")
LEAST = 1e-3
"""Least kappa and q at the start of training: nearer to 0 a softplus hardly learns."""


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, seed: int, dtype: torch.dtype = torch.float32
) -> nn.Sequential:
    """Linear layers with SiLU between them; the last is initially zero: an untrained perceptron has no effect."""
    net = mlp((inputs, *hidden, outputs), "silu", dtype=dtype, seed=seed)
    for parameter in net[-1].parameters():
        nn.init.zeros_(parameter)
    return net


def numbers_in(network: nn.Module | None) -> int:
    """Number of parameters of a network; 0 for None."""
    return 0 if network is None else sum(p.numel() for p in network.parameters())


class NetworkField(nn.Module):
    """g(x, t | c), affine in x, with coefficients from a network.

    Args:
        features: number of context features.
        hidden: widths of the perceptron's hidden layers; empty for the linear layer alone.
        knots: number of times, equally spaced over the horizon, at which the coefficients are given.
        squares: whether q is given too.
        state: ``"linear"``: kappa has any sign. Negative values are right if runs have different optima: the farther a
            weight has moved, the farther away its optimum probably is. ``"restoring"``: kappa is positive, an
            attraction to the aim b / kappa. ``"none"``: kappa is 0, and x is not used.
        seed: of the initial weights.
        dtype: of the weights.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], knots: int, squares: bool, state: str = "restoring",
        seed: int = 0, dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.knots, self.squares, self.state = knots, squares, state
        self.width = 2 + int(squares)
        with seeding(seed):  # some weights are drawn and then set to zero
            self.linear = nn.Linear(features, knots * self.width, dtype=dtype)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.perceptron = perceptron(features, hidden, knots * self.width, seed, dtype) if hidden else None

    def coefficients(self, context: Tensor) -> Tensor:
        """(batch, knots, 2 or 3): kappa, b and q at the knots; q, and a restoring kappa, before a softplus."""
        out = self.linear(context)
        if self.perceptron is not None:
            out = out + self.perceptron(context)
        return out.unflatten(-1, (self.knots, self.width))

    def between(self, coefficients: Tensor, share: Tensor) -> Tensor:
        """(batch, times, 2 or 3) the coefficients at shares (batch, times) of the horizon; constant beyond it.

        Shares (1, times) are those of the whole batch.
        """
        place = (share * (self.knots - 1)).clamp(0, self.knots - 1)
        if place.numel() == 1 and place.device.type == "cpu":  # views, not copies; an accelerator would have to wait
            at = int(place) if place < self.knots - 1 else max(self.knots - 2, 0)
            before, after = (coefficients[:, k : k + 1] for k in (at, min(at + 1, self.knots - 1)))
            return torch.lerp(before, after, float(place - at))
        low = place.floor().clamp(max=max(self.knots - 2, 0))
        high = (low + 1).clamp(max=self.knots - 1)
        if len(share) == 1:
            before, after = (coefficients[:, at[0].long()] for at in (low, high))
        else:
            before, after = (
                coefficients.gather(1, at.long()[..., None].expand(-1, -1, self.width)) for at in (low, high)
            )
        return torch.lerp(before, after, (place - low)[..., None])

    def values(self, coefficients: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The values of g and q (None without squares) for coefficients (..., 2 or 3) at places x (...)."""
        kappa, b = coefficients[..., 0], coefficients[..., 1]
        if self.state == "restoring":
            kappa = F.softplus(kappa)
        g = -b if self.state == "none" else kappa * x - b
        return g, F.softplus(coefficients[..., 2]) if self.squares else None

    def start(self, kappa: Tensor, b: Tensor, q: Tensor | None) -> None:
        """Set the linear layer.

        Args:
            kappa: (knots,).
            b: (knots, features+1), the last column the constant.
            q: (knots,) constants, positive.
        """
        with torch.no_grad():
            weight = self.linear.weight.view(self.knots, self.width, -1)
            bias = self.linear.bias.view(self.knots, self.width)
            weight.zero_()
            weight[:, 1], bias[:, 1] = b[:, :-1], b[:, -1]
            bias[:, 0] = _before_softplus(kappa.clamp_min(LEAST)) if self.state == "restoring" else kappa
            if q is not None:
                bias[:, 2] = _before_softplus(q.clamp_min(LEAST))


def _before_softplus(value: Tensor) -> Tensor:
    return torch.where(value > 20, value, value.clamp(max=20).expm1().log())
