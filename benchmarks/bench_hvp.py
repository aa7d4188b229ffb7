"""A Hessian-vector product at a point that is kept, in units of one plain gradient (ratio).

Target: at most 1.3 gradients at p = 85,002, n = 1,000, float32, one thread. Chains of linear layers go by
their own forward and backward sweep, with all that does not depend on the vector kept; any other module goes by double
backward on its kept graph, shown here for the same networks. Both take their memory anew, as a gradient does; what
that costs depends on what the process holds besides.
"""

import torch
from common import pairwise, perceptron, report

rows = []
for dims in ([8, 16, 16, 1], [64, 64, 64, 4], [64, 256, 256, 10]):
    problem = perceptron(dims, 1000)
    v = torch.randn(1, problem.p)
    for way in ("sweep", "kept graph"):
        if way == "kept graph":
            problem.feed_forward = None
        point = problem.at(problem.w0)
        rows.append({
            "way": way,
            "p": problem.p,
            "n": problem.n,
            "target": 1.3,
            **pairwise(lambda point=point, v=v: point.hvp(v), lambda q=problem: q.gradient(q.w0)),
        })
report("hvp", __doc__, rows)
