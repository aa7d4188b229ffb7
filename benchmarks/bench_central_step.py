"""One step of the central flow, in units of one plain gradient of the same problem (ratio).

Targets: at most 40 gradients at one critical eigenvalue, 90 at three; the stable flow at most 6
beyond the gradients of its substeps; medians, p about 450, n = 128, float32, one thread. Below them whole runs as users
start them (float64, default settings, 450 weights), arrival at the edge and repeated steps included: at most 50
gradients a step in the mean. Before eigenvectors turned within a step and feed-forward networks had sweeps of their
own, these took 119, 58 and 80.
"""

import statistics
import time

import torch
from common import pairwise, perceptron, report

import gfm
from gfm.central import Settings
from gfm.central.processes import Central, Stable
from gfm.problem import Costs


def spent(problem: gfm.Problem, before: Costs, steps: int) -> dict[str, float]:
    """Evaluations a step since ``before``."""
    costs = problem.costs.since(before)
    return {
        "gradients a step": costs.gradients / steps, "products a step": costs.hvps / steps,
        "third derivatives a step": costs.thirds / steps,
    }


def step_of(kind: type, outputs: int, lr: float, before: int) -> dict[str, float]:
    problem = perceptron([8, 16, 16, outputs], 128)
    rule = gfm.optimizers.GradientDescent(lr=lr)
    process = kind(problem, rule, Settings(), problem.w0, rule.init(problem.w0))
    critical, count = [], 0

    def step() -> None:
        nonlocal count
        seen = process.observe(count)
        critical.append(seen.get("critical", 0.0))
        process.advance()
        count += 1

    for _ in range(before):
        step()
    twin = perceptron([8, 16, 16, outputs], 128)  # of its own, so that the unit's gradients are not counted
    costs = problem.costs.copy()
    first = count
    result = pairwise(step, lambda: twin.gradient(twin.w0))
    return {"p": problem.p, "critical": max(critical[-30:]), **result, **spent(problem, costs, count - first)}


def run_of(rule: gfm.optimizers.Optimizer, steps: int, before: int = 0) -> dict[str, float]:
    """The mean cost of a step over a whole run; a unit is measured after every step."""
    problem, twin = (perceptron([8, 16, 16, 2], 128, torch.float64) for _ in range(2))
    process = Central(problem, rule, Settings(), problem.w0, rule.init(problem.w0))
    work, units, critical, costs = [], [], 0.0, problem.costs.copy()
    for count in range(before + steps):
        started = time.perf_counter()
        seen = process.observe(count)
        process.advance()
        ended = time.perf_counter()
        twin.gradient(twin.w0)  # the first finds the processor's memory full of other things
        middle = time.perf_counter()
        twin.gradient(twin.w0)
        if count < before:
            costs = problem.costs.copy()
            continue
        work.append(ended - started)
        units.append(time.perf_counter() - middle)
        critical = max(critical, seen.get("critical", 0.0))
    mean, unit = statistics.mean(work), statistics.median(units)
    return {
        "p": problem.p, "critical": critical, "milliseconds": 1e3 * mean, "unit milliseconds": 1e3 * unit,
        "ratio": mean / unit, **spent(problem, costs, steps),
    }


rows = [
    {"process": "central flow", "target": 40, **step_of(Central, 1, 0.5, 90)},
    {"process": "central flow", "target": 90, **step_of(Central, 3, 0.3, 90)},
]
stable = step_of(Stable, 1, 0.3, 40)
stable["ratio"] -= stable["gradients a step"]
rows.append({"process": "stable flow, beyond its substeps' gradients", "target": 6, **stable})
rules: dict[str, tuple[gfm.optimizers.Optimizer, int, int]] = {
    "gradient descent, 120 steps": (gfm.optimizers.GradientDescent(lr=0.5), 120, 0),
    "Scalar RMSProp, 100 steps": (gfm.optimizers.ScalarRMSProp(lr=0.05), 100, 0),
    "RMSProp, 60 steps after 40": (gfm.optimizers.RMSProp(lr=0.002), 60, 40),
}
rows += [{"process": f"run of {name}", "target": 50, **run_of(*given)} for name, given in rules.items()]
report("central_step", __doc__, rows)
