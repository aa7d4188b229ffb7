"""How a central-flow step grows with the number of weights and of examples, and what memory it takes.

Targets: time grows with an exponent of at most 1.05 from p = 1e3 to 1e6 and with n; peak memory at
most 12 weight vectors beyond the activations (measured at n = 1, where those are negligible, and at
nine million weights, where what the libraries take themselves is, in a process of its own: its peak
resident size over that with the problem built, cold eigenvalue solve and steps taken again included). One critical
direction and its guard are followed; times are of four fixed substeps, memory is with adaptive ones, the default.
"""

import os
import resource
import subprocess
import sys

import numpy as np
from common import pairwise, perceptron, report

import gfm
from gfm.central import Settings
from gfm.central.processes import Central


def network(hidden: int, n: int) -> gfm.Problem:
    return perceptron([64, hidden, hidden, 1], n)


def process_at_edge(problem: gfm.Problem, adaptive: bool = False) -> Central:
    """A central process whose learning rate puts its start just at the edge, with one critical direction."""
    top = float(problem.top_eigenpairs(problem.w0, 1)[0][0])
    rule = gfm.optimizers.GradientDescent(lr=1.97 / top)
    return Central(problem, rule, Settings(adaptive=adaptive), problem.w0, rule.init(problem.w0))


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory(hidden: int) -> None:
    """Print the weight vectors' worth of memory that three steps take beyond the problem itself."""
    problem = network(hidden, 1)
    before = resident()
    process = process_at_edge(problem, adaptive=True)
    for t in range(3):
        process.observe(t)
        process.advance()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(problem.p, grown / (4 * problem.p))


def seconds(hidden: int, n: int) -> tuple[int, float]:
    process = process_at_edge(network(hidden, n))
    count = 0

    def step() -> None:
        nonlocal count
        process.observe(count)
        process.advance()
        count += 1

    rounds = 9 if hidden > 300 or n > 1000 else 15
    found = pairwise(step, lambda: process.problem.gradient(process.problem.w0), rounds)
    return process.problem.p, found["milliseconds"]


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].isdigit():
        memory(int(sys.argv[1]))
        sys.exit()
    rows = []
    by_p = [(p, t, 128) for p, t in (seconds(hidden, 128) for hidden in (12, 70, 280, 960))]
    by_n = [(n, seconds(64, n)[1]) for n in (125, 500, 2000)]
    slope_p = np.polyfit(np.log([p for p, *_ in by_p]), np.log([t for _, t, _ in by_p]), 1)[0]
    slope_n = np.polyfit(np.log([n for n, _ in by_n]), np.log([t for _, t in by_n]), 1)[0]
    rows += [{"p": p, "n": n, "milliseconds": t} for p, t, n in by_p]
    rows += [{"p": 8321, "n": n, "milliseconds": t} for n, t in by_n]
    rows.append({"quantity": "exponent of time in p", "target": 1.05, "value": float(slope_p)})
    rows.append({"quantity": "exponent of time in n", "target": 1.05, "value": float(slope_n)})
    # With a fixed threshold freed vectors go back to the system at once, so that the peak is what was in use.
    done = subprocess.run(
        [sys.executable, __file__, "3000"], capture_output=True, text=True, check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"},
    )
    p, vectors = done.stdout.split()[-2:]
    rows.append({"quantity": f"peak memory in weight vectors (p = {p})", "target": 12, "value": float(vectors)})
    report("scaling", __doc__, rows)
