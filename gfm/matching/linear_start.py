"""The linear start of the network: the least-squares solution of its own matching problem."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import solveh_banded
from torch import Tensor

from gfm.matching.course import Course
from gfm.matching.field import LEAST, NetworkField

__all__ = ["START_RIDGES", "linear_starts"]

START_RIDGES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 0.0)
"""Candidate ridges, relative to the mean square of each feature."""
MOST = 20_000
"""The largest number of series from which the start is computed."""
LEAST_RIDGE = 1e-14
"""The least ridge where the normal equations are singular."""


def linear_starts(
    network: NetworkField, course: Course, context: Tensor, n: int, span: int
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """(kappa, b, q) of the network's linear layer for every one of ``START_RIDGES``; see :meth:`NetworkField.start`.

    The velocity of x is affine in g, so two evaluations of the rule determine the g that explains a step. The
    coefficients are piecewise linear in time, so the normal equations couple neighbouring knots only. The features of a
    series are the same at all its steps, so the factors that depend on the step are summed before they are multiplied
    by the features.

    Args:
        network: whose linear layer it is.
        course: of the fitted runs.
        context: (series, features), standardised.
        n: number of the last observed state.
        span: states from the start of a path to its end.
    """
    horizon = course.z.shape[1] - 1 - n
    some = torch.linspace(0, len(course.z) - 1, min(len(course.z), MOST)).round().long().to(context.device)
    course = course.part(some)
    features = torch.cat([context[some], context.new_ones(len(some), 1)], dim=1)
    knots, width = network.knots, features.shape[1] + 1
    alone, coupled = features.new_zeros(2, knots, 3, len(some))  # of each knot alone, and of each with the next one
    shown = features.new_zeros(knots, 2, len(some))
    squares = features.new_zeros(2, knots)
    zero, one = features.new_zeros(len(some), 1), features.new_ones(len(some), 1)
    for k in range(n, n + horizon - span + 1):
        z, step = course.z[:, k : k + 1], course.steps[:, k : k + 1]
        count = float(course.steps[0, k + span] - course.steps[0, k])
        u = (course.z[:, k + span : k + span + 1] - z) / count
        place = torch.tensor([[(k - n) / horizon * (knots - 1)]]).to(u)
        low = min(int(place), max(knots - 2, 0))
        share = float(place) - low
        q = None
        if network.squares:
            still, moving = (course.velocity(z, zero, q, step, count)[..., -1] for q in (zero, one))
            q = (u[..., -1] - still) / (moving - still)
            mean = (course.weight * q[:, 0]).sum()
            squares[0, low] += (1 - share) * mean
            squares[1, low] += (1 - share) * course.weight.sum()
            if low + 1 < knots:
                squares[0, low + 1] += share * mean
                squares[1, low + 1] += share * course.weight.sum()
        given = LEAST * z[..., 0] if network.state == "restoring" else zero  # the attraction with the least kappa
        still, moving = (course.velocity(z, given + g, q, step, count)[..., 0] for g in (zero, one))
        response = ((moving - still) * course.weight.sqrt()[:, None])[:, 0]
        x = z[:, 0, 0] if network.state == "linear" else zero[:, 0]
        wanted = response * (u[:, 0, 0] - still[:, 0]) * course.weight.sqrt()
        squared = response.square() * torch.stack([torch.ones_like(x), x, x.square()])
        for knot, part in ((low, 1 - share), (low + 1, share)):
            if part:
                alone[knot] += part**2 * squared
                shown[knot] += part * torch.stack([wanted, wanted * x])
        if share:
            coupled[low] += share * (1 - share) * squared
    gram, right = _Banded(knots, width), np.zeros((knots, width))
    for knot in range(knots):
        gram.add(knot, knot, _block(features, alone[knot]))
        right[knot, 0], right[knot, 1:] = shown[knot, 1].sum(), -features.T @ shown[knot, 0]
        if knot + 1 < knots:
            gram.add(knot + 1, knot, _block(features, coupled[knot]))
    q = None
    if network.squares:
        mean = squares[0].sum() / squares[1].sum()
        q = torch.where(squares[1] > 0, squares[0] / squares[1], mean)  # with few steps some knots get none
    out = []
    for found in gram.solutions(right.ravel(), START_RIDGES):
        kappa_b = torch.from_numpy(found.reshape(knots, width)).to(features)
        out.append((kappa_b[:, 0], kappa_b[:, 1:], q))
    return out


class _Banded:
    """A symmetric positive matrix of blocks (width, width) on its diagonal and beside it, in LAPACK's band storage."""

    def __init__(self, knots: int, width: int) -> None:
        self.width, self.band = width, np.zeros((min(2, knots) * width, knots * width))

    def add(self, row: int, column: int, block: Tensor) -> None:
        """Add a block (width, width) in the lower half; entry (i, j) of the matrix is ``band[i - j, j]``."""
        below = (row - column) * self.width + np.arange(self.width)[:, None] - np.arange(self.width)
        i, j = np.nonzero(below >= 0)
        self.band[below[i, j], column * self.width + j] = block.double().numpy()[i, j]

    def solutions(self, right: np.ndarray, ridges: Sequence[float]) -> list[np.ndarray]:
        """The solution with each ridge (relative to the diagonal), or with a larger one where it is too small."""
        size = np.sqrt(self.band[0])
        unseen = size == 0  # coefficients of which no series tells anything stay 0
        size[unseen] = 1.0
        scaled = self.band / size
        for below in range(len(scaled)):
            scaled[below, : len(size) - below] /= size[below:]
        diagonal, right, out = np.where(unseen, 1.0, scaled[0]), right / size, []
        for ridge in ridges:
            while True:
                scaled[0] = diagonal + ridge
                try:
                    out.append(solveh_banded(scaled, right, lower=True) / size)
                    break
                except np.linalg.LinAlgError:  # singular within rounding
                    ridge = max(10 * ridge, LEAST_RIDGE)
        return out


def _block(features: Tensor, squared: Tensor) -> Tensor:
    """(width, width) the sum over series of the squared response times [x, -f] [x, -f]^T, for the features f.

    Args:
        features: (series, width - 1).
        squared: (3, series) the squared response times 1, x and x^2.
    """
    corner, edge = squared[2].sum()[None, None], -(features.T @ squared[1])[:, None]
    inner = features.T @ (squared[0][:, None] * features)
    return torch.cat([torch.cat([corner, edge.T], dim=1), torch.cat([edge, inner], dim=1)])
