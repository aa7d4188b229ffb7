"""Along a run of RMSProp: how close its second moments are to stationary, and how good that preconditioner is.

Also the stationary flow from one point of the run, with and without its curvature penalty.
"""

import time
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gfm.central import Run
from gfm.central.base import flat_value
from gfm.central.stationary.flow import stationary_flow
from gfm.central.stationary.program import first_term, optimisation_speed, stationary
from gfm.checks import whole
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.experiments.central.flow_run import FlowRun, run_of
from gfm.optimizers.base import check_share
from gfm.optimizers.second_moment import SecondMoment
from gfm.problem import Problem
from gfm.store.experiment import Context, Result
from gfm.store.store import obtain

__all__ = ["LARGER", "StationaryPaths", "StationaryPoints", "remembered"]

#: Multiples of the learning rate at which the limit of large rates is tested.
LARGER = (10, 100, 1000, 10000)
#: Relative duality gap of these programs and of their limit, whose speeds differ by 1e-7 and less.
_FINE = 1e-11


@dataclass(frozen=True)
class _OverRun(FlowRun):
    """A computation on a stored run of RMSProp's central flow that kept the weights and all of nu."""

    def base(self) -> FlowRun:
        """The run: the same parameters, with every second moment recorded."""
        if self.optimizer != "rmsprop" or self.keep_weights < 1:
            raise InputError("Stationary points need a run of rmsprop that keeps weights (keep_weights of at least 1).")
        if self.schedule != "constant":
            raise InputError("Second moments come to rest at one learning rate; leave schedule at constant.")
        return FlowRun(**{f.name: getattr(self, f.name) for f in fields(FlowRun)})

    def run(self) -> Run:
        return run_of(obtain(self.base()))


def _at(problem: Problem, weights: np.ndarray) -> Tensor:
    return torch.tensor(weights, dtype=problem.dtype, device=problem.device)


def _info(problem: Problem, started: float) -> dict[str, float]:
    """Size and costs of this computation, without those of the run."""
    return {"p": problem.p, **asdict(problem.costs), "seconds": time.perf_counter() - started}


@dataclass(frozen=True)
class StationaryPoints(_OverRun):
    """The flow's nu and the stationary nu at kept weights of the central flow, every ``every`` steps from ``first``.

    Arrays, one row per checkpoint: step; cosine of nu and stationary nu, lagged of nu and the stationary nu averaged
    over nu's own memory; nu_seen, nu_still (m, 10), both for ten weights (nu corrected for bias); gap, residual,
    violation (the worse of the two programs); speed_stationary, speed_first, speed_descent. At the last checkpoint
    only: speed_limit (4,) with ``LARGER`` times the learning rate.
    """

    name: ClassVar[str] = "stationary-points"

    first: int = 0
    every: int = 50

    def compute(self, context: Context) -> Result:
        """Compare the flow's nu with the stationary nu at each checkpoint.

        Raises:
            InputError: ``every`` or ``first`` does not fit ``keep_weights``, or not every second moment was recorded.
        """
        started = time.perf_counter()
        every, first = whole("every", self.every, 1), whole("first", self.first, 0)
        if self.keep_weights > 0 and every % self.keep_weights:
            raise InputError(f"every must be a multiple of keep_weights, but they are {every} and {self.keep_weights}.")
        run, problem, rule = self.run(), self.problem(context), self.rule()
        nu = run["central"].get("nu_at", np.empty((0, 0)))
        if nu.shape[1] != problem.p:
            raise InputError(
                f"The run recorded {nu.shape[1]} of {problem.p} second moments; set coordinates to {problem.p} or more."
            )
        kept = run["central"].weights_steps.astype(int)
        steps = [t for t in kept if t >= first and (t - first) % every == 0]
        if not steps:
            raise InputError("No weights were kept from first on; it must be a multiple of keep_weights in the run.")
        ten = np.linspace(0, problem.p - 1, 10).round().astype(int)
        rows: list[dict[str, Any]] = []
        found, average, still = None, np.empty(0), np.empty(0)
        assert isinstance(rule, SecondMoment)
        for number, t in enumerate(steps):
            w = _at(problem, run["central"].weights[np.flatnonzero(kept == t)[0]])
            H, g = dense_hessian(problem, w).cpu().numpy(), problem.gradient(w).cpu().numpy()
            found = stationary(H, g, self.lr, start=found)
            least = first_term(H, tolerance=_FINE if t == steps[-1] else 1e-7)
            seen = nu[t] * rule.correction(t + self.warmup + 1.0)
            average = remembered(average, still, found.nu, every, self.beta2) if number else seen
            still = found.nu
            rows.append({
                "step": t,
                "cosine": _cosine(seen, still), "lagged": _cosine(seen, average),
                "nu_seen": seen[ten], "nu_still": found.nu[ten],
                "gap": max(found.gap, least.gap), "residual": found.residual,
                "violation": max(found.violation, least.violation),
                "speed_stationary": optimisation_speed(found.P, g),
                "speed_first": optimisation_speed(least.P, g),
                "speed_descent": optimisation_speed(np.linalg.eigvalsh(H)[-1] / 2, g),
            })
            context.progress(number + 1, len(steps))
        arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
        limits = [stationary(H, g, c * self.lr, tolerance=_FINE).P for c in LARGER]
        arrays["speed_limit"] = np.array([optimisation_speed(P, g) for P in limits])
        return Result(arrays, _info(problem, started))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def remembered(average: np.ndarray, before: np.ndarray, now: np.ndarray, steps: int, beta2: float) -> np.ndarray:
    """An ``average`` after ``steps`` of nu's dynamics, while its target moves evenly from ``before`` to ``now``.

    All three have the shape of nu, and so has the result.

    Raises:
        InputError: ``steps`` is below 1, or ``beta2`` is not in (0, 1).
    """
    steps, beta2 = whole("steps", steps, 1), check_share("beta2", beta2, zero=False)
    rate = (1 - beta2) / beta2
    trail = (now - before) / (rate * steps)  # how far an average trails a target that moves evenly
    return now - trail + (average - before + trail) * np.exp(-rate * steps)


@dataclass(frozen=True)
class StationaryPaths(_OverRun):
    """The stationary flow with and without its penalty, for ``length`` steps from the central flow at ``start``.

    Arrays (length + 1,): loss and nu_sum of "full" and "ablated" (full_loss, ...); if ``outputs`` is positive, the
    network's outputs on test examples, flattened (length + 1, outputs x width). Scalars: the optimizer's final
    distances to the central flow and to both stationary flows (central_distance, full_distance,
    ablated_distance).
    """

    name: ClassVar[str] = "stationary-paths"

    start: int = 100
    length: int = 20

    def compute(self, context: Context) -> Result:
        """Follow both stationary flows from ``start``, and measure how far each ends from the optimizer.

        Raises:
            InputError: No weights were kept at ``start`` or at ``start + length``.
        """
        started = time.perf_counter()
        run, problem = self.run(), self.problem(context)
        kept = run["central"].weights_steps.astype(int)
        places = [np.flatnonzero(kept == t) for t in (self.start, self.start + self.length)]
        if not all(len(place) for place in places):
            raise InputError("No weights were kept at start and start + length; choose multiples of keep_weights.")
        at_start, at_end = (int(place[0]) for place in places)
        w = _at(problem, run["central"].weights[at_start])
        end = run["discrete"].weights[at_end]
        arrays = {"central_distance": np.array(np.linalg.norm(run["central"].weights[at_end] - end))}
        for turn, name in enumerate(("full", "ablated")):
            def progress(done: int, total: int, turn: int = turn) -> None:
                context.progress(turn * total + done, 2 * total)

            path = stationary_flow(
                problem, w, self.lr, self.length, curvature_penalty=name == "full", progress=progress
            )
            arrays[f"{name}_loss"], arrays[f"{name}_nu_sum"] = path.loss, path.nu_sum
            arrays[f"{name}_distance"] = np.array(np.linalg.norm(path.weights[-1] - end))
            for observable, function in self.observables(problem).items():
                seen = [flat_value(function, _at(problem, row)) for row in path.weights]
                arrays[f"{name}_{observable}"] = np.array(seen)
        return Result(arrays, _info(problem, started))
