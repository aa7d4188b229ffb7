"""One step of the central flow, in units of one plain gradient of the same problem (ratio).

Targets: at most 40 gradients at one critical eigenvalue, 90 at three; the stable flow at most 6
beyond the gradients of its substeps; medians, p about 450, n = 128, float32, one thread. Below them whole runs as users
start them (float64, default settings, 450 weights), arrival at the edge and repeated steps included: at most 50
gradients a step in the mean. RMSProp's run starts after 40 steps of the optimizer. Beside them stands how far they end
from the same run with 32 substeps and eigenvectors to 1e-8, over the length of its way.

These runs once took 81, 50 and 104 gradients where this benchmark showed 32: it had the median of steps with one
eigenvalue at the edge, not whole runs with two, and a unit timed right after a step, which is slow since the
processor's memory is full of other things. Half of the time and more went to automatic differentiation of many small
operations, which sweeps of their own for feed-forward networks now replace; of gradient descent's also a third to
repeated steps: 35 of 120 with eigenvectors held within a step, 10 now that they turn.
"""

import statistics

import torch
from common import paired, pairwise, perceptron, report

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


def run_of(rule: gfm.optimizers.Optimizer, steps: int, warmup: int = 0) -> dict[str, float]:
    """The mean cost of a step over a whole run, and its distance from a finer one; a unit is timed after every step."""
    problem, twin = (perceptron([8, 16, 16, 2], 128, torch.float64) for _ in range(2))
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(warmup):
        w, state = rule.advance(w, state, problem.gradient(w))
    process, fine = (
        Central(p, rule, s, w, state)
        for p, s in ((problem, Settings()), (twin, Settings(substeps=32, tolerance=1e-8)))
    )
    pairs, critical, way, costs = [], 0.0, 0.0, problem.costs.copy()
    for count in range(steps):
        seen: dict = {}

        def step(count: int = count, seen: dict = seen) -> None:
            seen |= process.observe(count)
            process.advance()

        pairs.append(paired(step, lambda: twin.gradient(twin.w0)))
        critical = max(critical, seen.get("critical", 0.0))
        before = fine.w
        fine.observe(count)
        fine.advance()
        way += float((fine.w - before).norm())
    works, units = zip(*pairs, strict=True)
    return {
        "p": problem.p, "critical": critical, "milliseconds": 1e3 * statistics.mean(works),
        "unit milliseconds": 1e3 * statistics.mean(units), "ratio": statistics.mean(a / b for a, b in pairs),
        "off, % of the way": 100 * float((process.w - fine.w).norm()) / way, **spent(problem, costs, steps),
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
