"""From a field to a forecast: integration of the flow by torchdiffeq."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchdiffeq import odeint

from gfm.checks import one_of, whole
from gfm.errors import NumericalError

__all__ = ["Solver", "integrate"]


@dataclass(frozen=True)
class Solver:
    """How a flow is integrated.

    Args:
        method: a fixed-step scheme of torchdiffeq, ``"euler"``, ``"midpoint"`` or ``"rk4"``.
        substeps: solver steps per recorded state. With ``"euler"`` and one substep, one step of the flow leads from one
            recorded state to the next; more substeps approximate the continuous curve instead.
        dtype: of the integration and the vector view's network, ``"float64"`` or ``"float32"``.
        memory: working memory, in bytes, of a forecast of the coordinate view, in addition to prefix and result;
            weights are integrated in chunks that fit. (The vector view has at most 64 weights.)

    Raises:
        InputError: A value is unknown or out of range.
    """

    method: str = "euler"
    substeps: int = 1
    dtype: str = "float64"
    memory: int = 256 * 2**20

    def __post_init__(self) -> None:
        one_of("method", self.method, ("euler", "midpoint", "rk4"))
        one_of("dtype", self.dtype, ("float32", "float64"))
        whole("substeps", self.substeps, 1)
        whole("memory", self.memory, 2**20)

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as a ``torch.dtype``."""
        return getattr(torch, self.dtype)


EULER = Solver()


def integrate(field: Callable[[Tensor, Tensor], Tensor], start: Tensor, horizon: int, solver: Solver = EULER) -> Tensor:
    """States at the times 1..horizon of dx/dt = field(t, x), x(0) = start; a unit of time is one recorded state.

    The dtype is that of ``start``; of the solver only the method and the substeps are used.

    Returns:
        (horizon, ...), where ``...`` is the shape of ``start``.

    Raises:
        NumericalError: The flow is no longer finite.
    """
    times = torch.arange(horizon + 1, dtype=start.dtype, device=start.device)
    options = {"step_size": 1.0 / solver.substeps} if solver.substeps > 1 else None
    states = odeint(field, start, times, method=solver.method, options=options)[1:]
    if not torch.isfinite(states[-1]).all():  # what has left the finite numbers does not come back
        raise NumericalError("The learned flow left the finite numbers; lower its horizon or rate.")
    return states
