"""The conditional path between two recorded states, and its velocity.

Gradient flow matching treats a trajectory as a curve, piecewise linear between recorded states, and
matches a field to the curve's velocity. As in torchcfm, the two ends and a time give a location on the path and
the velocity there.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gfm.checks import number, one_of, whole
from gfm.errors import InputError

__all__ = ["IncrementPath"]


@dataclass(frozen=True)
class IncrementPath:
    """A straight path from x0 to x1 in ``span`` units of time, with Gaussian noise ``noise`` around it.

    The location is (1-t) x0 + t x1 + noise * e, the velocity (x1 - x0) / span (the interpolation of arXiv
    2505.20221; the velocity target is inferred from it).

    Attributes:
        within: ``"grid"`` matches at x0 itself; ``"linear"`` at a random point between x0 and x1. With stochastic
            gradients such a point already contains part of the step's own noise, which a regression on the velocity
            would learn as signal; hence the default.
        noise: standard deviation of the Gaussian, in the units of x.
        span: recorded states from x0 to x1, so that a unit of time is one recorded state.

    Raises:
        InputError: ``within`` is unknown, ``noise`` is negative, or ``span`` is below 1.
    """

    within: str = "grid"
    noise: float = 0.0
    span: int = 1

    def __post_init__(self) -> None:
        one_of("within", self.within, ("grid", "linear"))
        number("noise", self.noise, lambda x: 0 <= x < math.inf, "a number of at least 0")
        whole("span", self.span, 1)

    def sample_location_and_conditional_flow(
        self, x0: Tensor, x1: Tensor, t: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw t, the location x_t and the velocity u_t.

        Args:
            x0: (batch, ...) states.
            x1: (batch, ...) states ``span`` recorded states later.
            t: (batch,) in [0, 1); by default drawn, or 0 if ``within`` is ``"grid"``.
            generator: of the random draws.

        Returns:
            t (batch,), and x_t and u_t of the shape of x0.

        Raises:
            InputError: x0 and x1 differ in shape.
        """
        if x0.shape != x1.shape:
            raise InputError(f"x0 {tuple(x0.shape)} and x1 {tuple(x1.shape)} differ in shape.")
        if t is None:
            t = torch.zeros(len(x0), dtype=x0.dtype)  # on the CPU, like the generator
            if self.within == "linear":
                t.uniform_(generator=generator)
            t = t.to(x0.device)
        share = t.reshape(-1, *[1] * (x0.ndim - 1))
        location = x0 + share * (x1 - x0)
        if self.noise:
            e = torch.empty_like(x0, device="cpu").normal_(generator=generator).to(x0.device)
            location = location + self.noise * e
        return t, location, (x1 - x0) / self.span
