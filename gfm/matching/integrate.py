"""From a field to a forecast: the flow, by torchdiffeq."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

from gfm.checks import one_of, whole
from gfm.errors import InputError, NumericalError

__all__ = ["Solver", "integrate"]


@dataclass(frozen=True)
class Solver:
    """How a flow is integrated.

    Args:
        method: a fixed-step scheme of torchdiffeq, ``"euler"``, ``"midpoint"`` or ``"rk4"``.
        substeps: solver steps in an optimizer step. With ``"euler"`` and one substep a step of the flow is a step of
            the optimizer; more substeps follow the curve between recorded states instead.
        dtype: of the closed-form part, the integration and the vector view's network, ``"float64"`` or ``"float32"``.
        memory: bytes that a forecast of the coordinate view works in, beside the prefix and the result; weights beyond
            what fits are carried in chunks. (The vector view has at most 64 weights.)

    Raises:
        InputError: a value that is none of these.
    """

    method: str = "euler"
    substeps: int = 1
    dtype: str = "float64"
    memory: int = 256 * 2**20

    def __post_init__(self) -> None:
        one_of("method", self.method, ("euler", "midpoint", "rk4"))
        one_of("dtype", self.dtype, ("float32", "float64"))
        whole("substeps", self.substeps, 1)
        if self.memory < 2**20:
            raise InputError(f"memory is in bytes and must be at least 2**20; got {self.memory}.")

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as torch names it."""
        return getattr(torch, self.dtype)


EULER = Solver()


def integrate(
    field: Callable[[Tensor, Tensor], Tensor], start: Tensor, horizon: int, solver: Solver = EULER
) -> Tensor:
    """States at the times 1..horizon of dx/dt = field(t, x), x(0) = start; a unit of time is one optimizer step.

    The dtype is that of ``start``; of the solver only the method and the substeps are used.

    Returns:
        (horizon, ...), of the shape of ``start``.

    Raises:
        NumericalError: the flow leaves the finite numbers.
    """
    times = torch.arange(horizon + 1, dtype=start.dtype, device=start.device)
    options = {"step_size": 1.0 / solver.substeps} if solver.substeps > 1 else None
    states = odeint(field, start, times, method=solver.method, options=options)[1:]
    if not torch.isfinite(states).all():
        raise NumericalError("The learned flow left the finite numbers; lower its horizon or rate.")
    return states
