"""One step of the central flow (4 substeps), in units of one plain gradient of the same problem (ratio).

Targets: at most 40 gradients at one critical eigenvalue, 90 at three; the stable flow at most 6
beyond the gradients of its substeps. p about 450, n = 128, float32, one thread.
"""

from common import pairwise, perceptron, report

import gfm
from gfm.central import Settings
from gfm.central.processes import Central, Stable


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
    steps = count - first
    spent = problem.costs.since(costs)
    return {
        "p": problem.p,
        "critical": max(critical[-30:]),
        **result,
        "gradients a step": spent.gradients / steps,
        "products a step": spent.hvps / steps,
        "third derivatives a step": spent.thirds / steps,
    }


rows = [
    {"process": "central flow", "target": 40, **step_of(Central, 1, 0.5, 90)},
    {"process": "central flow", "target": 90, **step_of(Central, 3, 0.3, 90)},
]
stable = step_of(Stable, 1, 0.3, 40)
stable["ratio"] -= stable["gradients a step"]
rows.append({"process": "stable flow, beyond its substeps' gradients", "target": 6, **stable})
report("central_step", __doc__, rows)
