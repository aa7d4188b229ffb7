"""A Hessian-vector product on a kept graph, in units of one plain gradient.

Target: at most 1.3 gradients at p = 85,002, n = 1,000, float32, one thread. Where matrix products
take the time this cannot be met: a product through two hidden layers needs 14 of them, a gradient 8
(in arithmetic 1.9 gradients), and second derivatives of GELU. The target comes from a measurement with
a slower gradient (13.6 ms) and a slower product (17 ms) than these.
"""

from common import pairwise, perceptron, report

import torch

rows = []
for dims in ([8, 16, 16, 1], [64, 64, 64, 4], [64, 256, 256, 10]):
    problem = perceptron(dims, 1000)
    point = problem.at(problem.w0)
    v = torch.randn(1, problem.p)
    rows.append({
        "p": problem.p,
        "n": problem.n,
        "target": 1.3,
        **pairwise(lambda point=point, v=v: point.hvp(v), lambda q=problem: q.gradient(q.w0)),
    })
report("hvp", __doc__, rows)
