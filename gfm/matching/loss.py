"""The loss of conditional flow matching, the same for every field."""

from collections.abc import Callable

import torch
from torch import Tensor

from gfm.matching.path import IncrementPath

__all__ = ["flow_matching_loss"]


def flow_matching_loss(
    field: Callable[[Tensor, Tensor], Tensor], path: IncrementPath, x0: Tensor, x1: Tensor, start: Tensor,
    target: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator, weight: Tensor | float = 1.0,
) -> Tensor:
    """Mean squared difference between a field and the velocities of the paths from x0 to x1.

    Its minimiser over all fields is the mean velocity of the paths that pass through a location at a given time
    (Lipman et al. 2023, arXiv 2210.02747, theorem 2).

    Args:
        field: (locations, times in recorded states) -> the network's output there.
        path: draws a location on each path, and the velocity there.
        x0: (batch, ...) states from which the paths start.
        x1: (batch, ...) states at which they end, ``path.span`` recorded states later.
        start: (batch,) time at which each path starts.
        target: (locations, velocities per recorded state) -> the output to be matched: the velocity, minus the part
            that is known without the network, in the network's unit.
        generator: source of all random draws.
        weight: (batch,) weight of every path.
    """
    share, location, velocity = path.sample_location_and_conditional_flow(x0, x1, generator=generator)
    value = field(location, start + share * path.span)
    return (weight * (value - target(location, velocity)).square()).mean()
