"""From a field to a forecast: the flow, by torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

from gfm.errors import InputError, NumericalError

__all__ = ["integrate"]

FIXED = ("euler", "midpoint", "rk4")


def integrate(
    field: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    horizon: int,
    method: str = "euler",
    substeps: int = 1,
) -> Tensor:
    """States at the times 1..horizon of dx/dt = field(t, x), x(0) = start; a unit is one step.

    Args:
        field: (time, states) -> rates, of the states' shape.
        start: (...) the states at time 0.
        horizon: the last time.
        method: a fixed-step scheme of torchdiffeq.
        substeps: steps of the scheme in a unit of time. With ``"euler"`` and one substep a step of the flow is a step
            of the optimizer; more substeps follow the curve between recorded states instead.

    Returns:
        (horizon, ...), of the shape of ``start``.

    Raises:
        InputError: an unknown method.
        NumericalError: the flow leaves the finite numbers.
    """
    if method not in FIXED:
        raise InputError(f"method must be one of {FIXED}; got {method!r}.")
    if substeps < 1:
        raise InputError(f"substeps must be at least 1; got {substeps}.")
    times = torch.arange(horizon + 1, dtype=start.dtype, device=start.device)
    options = {"step_size": 1.0 / substeps} if substeps > 1 else None
    states = odeint(field, start, times, method=method, options=options)[1:]
    if not torch.isfinite(states).all():
        raise NumericalError("The learned flow left the finite numbers; lower its horizon or rate.")
    return states
