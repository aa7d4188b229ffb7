"""Warm top-5 eigenpairs along a central flow: Hessian-vector products a refresh.

Target: a median of at most 10 products at a relative residual of 1e-6 (float64). The cold solver
is counted beside it.
"""

import statistics

import torch
from common import perceptron, report

import gfm
from gfm.central import Settings
from gfm.central.processes import Central
from gfm.curvature import Tracker
from gfm.linalg import eigen

rows = []
for lr, dims in ((0.5, [8, 16, 16, 1]), (0.3, [8, 16, 16, 3])):
    problem = perceptron(dims, 128, torch.float64)
    rule = gfm.optimizers.GradientDescent(lr=lr)
    process = Central(problem, rule, Settings(), problem.w0, rule.init(problem.w0))
    tracker = Tracker(initial=5, grow=False, tolerance=1e-6, check_every=10**9)
    products, worst = [], 0.0
    for t in range(250):
        process.observe(t)
        found = tracker.refresh(problem.at(process.w, 5), rule.preconditioner(process.state))
        if t >= 10:
            products.append(found.products)
            worst = max(worst, float(found.residuals.max()))
        process.advance()
    cold = eigen.lanczos(problem.at(process.w, 5).hvp, problem.p, 5, like=problem.w0, tolerance=1e-6)
    rows.append({
        "p": problem.p, "lr": lr, "target": 10, "median products": statistics.median(products),
        "largest": max(products), "cold products": cold.products, "largest residual": worst,
    })
report("eigen", __doc__, rows)
