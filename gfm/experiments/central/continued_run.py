"""Lockstep runs of Scalar RMSProp that continue from a common point, each with its own settings."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from gfm import central
from gfm.checks import whole
from gfm.errors import InputError
from gfm.experiments.central.flow_run import FlowRun, run_of
from gfm.optimizers import Optimizer, ScalarRMSProp, State
from gfm.problem import Problem
from gfm.store.experiment import Obtain

__all__ = ["ContinuedRun", "continued_run"]


@dataclass(frozen=True)
class _Continued(ScalarRMSProp):
    """Scalar RMSProp whose second moment starts at ``nu`` instead of zero."""

    nu: float = 0.0

    def init(self, w: Tensor) -> State:
        return State(nu=torch.full((), self.nu, dtype=w.dtype, device=w.device))


@dataclass(frozen=True)
class ContinuedRun(FlowRun):
    """``start_steps`` discrete steps with ``start_lr`` and ``start_beta2``, then the run with ``lr`` and ``beta2``.

    All processes start from the weights and the second moment at the end of the first part, whose costs are
    recorded under "start".

    Raises:
        InputError: The optimizer is not scalar_rmsprop, or ``start_steps`` is negative.
    """

    name: ClassVar[str] = "continued-run"

    start_steps: int = 0
    start_lr: float = 0.01
    start_beta2: float = 0.99

    def _start(self, problem: Problem) -> tuple[Optimizer, Tensor, dict[str, dict[str, float]]]:
        rule = self.rule()
        if not isinstance(rule, ScalarRMSProp):
            raise InputError(f"Only runs of scalar_rmsprop can be continued, but the optimizer is {self.optimizer!r}.")
        started = time.perf_counter()
        first = replace(rule, lr=self.start_lr, beta2=self.start_beta2)
        w, state = problem.w0, first.init(problem.w0)
        for _ in range(whole("start_steps", self.start_steps, 0)):
            w, state = first.advance(w, state, problem.gradient(w))
        assert state.nu is not None
        spent = {**asdict(problem.costs), "seconds": time.perf_counter() - started}
        continued = _Continued(rule.lr, rule.beta2, rule.eps, rule.bias_correction, nu=float(state.nu))
        return continued, w, {"start": spent}


def continued_run(obtain: Obtain, **parameters: Any) -> central.Run:
    """The run with these parameters, from ``obtain`` (a notebook's ``element.obtain``)."""
    return obtain(ContinuedRun.from_parameters(**parameters)).read(run_of)
