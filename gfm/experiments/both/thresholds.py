"""Where rules with momentum lose stability: by the roots of a polynomial, and by torch's own optimizers."""

from collections.abc import Iterable

import numpy as np
import torch

from gfm.optimizers import Filter, HeavyBall, Nesterov

__all__ = ["converges", "largest_root", "torch_agrees"]


def largest_root(q: Filter, eigenvalue: float) -> float:
    """Size of the largest root of z - 1 + theta Q(z) / Q(1), theta an eigenvalue of the preconditioned Hessian."""
    size = max(len(q.n), len(q.d))
    n, d = (np.pad(values, (0, size - len(values))) for values in (q.n, q.d))
    polynomial = np.polyadd(np.polymul([1.0, -1.0], d), eigenvalue / q.gain * n)
    return float(np.abs(np.roots(polynomial)).max())


def converges(rate: float, momentum: float, nesterov: bool) -> bool:
    """Whether torch's SGD with the learning rate ``rate`` reaches the minimum of w^2 / 2 from w = 1."""
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=rate, momentum=momentum, nesterov=nesterov)
    for _ in range(3000):
        w.grad = w.detach().clone()
        optimizer.step()
    return bool(w.abs() < 1e-3)


def torch_agrees(share: float, momenta: Iterable[float]) -> float:
    """Share of the cases in which torch's SGD is stable below the threshold and unstable above it.

    The cases are heavy-ball momentum and Nesterov's form at each momentum, with learning rates below and above the
    threshold by ``share`` of it.
    """
    right = []
    for b in momenta:
        for kind in (HeavyBall, Nesterov):
            rule = kind(lr=1.0, momentum=b)
            edge = rule.threshold / rule.filter.gain  # of the learning rate times the curvature
            right += [converges(f * edge, b, kind is Nesterov) == (f < 1) for f in (1 - share, 1 + share)]
    return float(np.mean(right))
