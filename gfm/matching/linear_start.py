"""The linear start of the network: the least-squares solution of its own matching problem."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gfm.errors import NumericalError
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
    gram, right = _Chain(knots, width), torch.zeros(knots, width, dtype=torch.float64)
    for knot in range(knots):
        gram.diagonal[knot] = _block(features, alone[knot])
        right[knot, 0], right[knot, 1:] = shown[knot, 1].sum(), -features.T @ shown[knot, 0]
        if knot + 1 < knots:
            gram.below[knot] = _block(features, coupled[knot])
    q = None
    if network.squares:
        mean = squares[0].sum() / squares[1].sum()
        q = torch.where(squares[1] > 0, squares[0] / squares[1], mean)  # with few steps some knots get none
    return [(found[:, 0], found[:, 1:], q) for found in gram.solutions(right, START_RIDGES).to(features)]


class _Chain:
    """A symmetric matrix of blocks (width, width) on its diagonal and between neighbouring knots."""

    def __init__(self, knots: int, width: int) -> None:
        self.diagonal = torch.zeros(knots, width, width, dtype=torch.float64)
        self.below = torch.zeros(knots - 1, width, width, dtype=torch.float64)

    def solutions(self, right: Tensor, ridges: Sequence[float]) -> Tensor:
        """(ridges, knots, width) with each ridge (relative to the diagonal), or with a larger one if it is too small.

        Args:
            right: (knots, width).
            ridges: of at least 0.

        Raises:
            NumericalError: The matrix or the right-hand side is not finite.
        """
        if not all(torch.isfinite(part).all() for part in (self.diagonal, self.below, right)):
            raise NumericalError("The least-squares start of the field is not finite: the weights are too large.")
        size = self.diagonal.diagonal(dim1=1, dim2=2).sqrt()
        unseen = size == 0  # coefficients of which no series tells anything stay 0
        size = torch.where(unseen, 1.0, size)
        diagonal = self.diagonal / (size[:, :, None] * size[:, None]) + torch.diag_embed(unseen.double())
        below = self.below / (size[1:, :, None] * size[:-1, None])
        now = torch.tensor(ridges, dtype=torch.float64)
        out = diagonal.new_empty(len(now), *right.shape)
        left = torch.arange(len(now))
        while len(left):
            found, good = _solved(diagonal, below, right / size, now[left])
            out[left[good]] = found[good] / size
            left = left[~good]
            now[left] = (10 * now[left]).clamp_min(LEAST_RIDGE)  # singular within rounding
        return out


def _solved(diagonal: Tensor, below: Tensor, right: Tensor, ridges: Tensor) -> tuple[Tensor, Tensor]:
    """Block Cholesky for all ridges at once: solutions (ridges, knots, width), and where the matrix is positive."""
    good = torch.ones(len(ridges), dtype=torch.bool)
    raised = ridges[:, None, None] * torch.eye(diagonal.shape[-1], dtype=torch.float64)
    factors, links, forward = [], [], []
    carried, known = diagonal.new_zeros(()), diagonal.new_zeros(())
    for knot, block in enumerate(diagonal):
        factor, info = torch.linalg.cholesky_ex(block + raised - carried)
        good &= info == 0
        forward.append(torch.linalg.solve_triangular(factor, (right[knot, :, None] - known).expand_as(factor[..., :1]),
                                                    upper=False))
        factors.append(factor)
        if knot < len(below):
            links.append(torch.linalg.solve_triangular(factor, below[knot].T.expand_as(factor), upper=False))
            carried, known = links[knot].mT @ links[knot], links[knot].mT @ forward[knot]
    out: list[Tensor] = []
    for knot in reversed(range(len(diagonal))):
        rest = forward[knot] - (links[knot] @ out[-1] if out else 0)
        out.append(torch.linalg.solve_triangular(factors[knot].mT, rest, upper=True))
    return torch.stack(out[::-1], dim=1)[..., 0], good


def _block(features: Tensor, squared: Tensor) -> Tensor:
    """(width, width) the sum over series of the squared response times [x, -f] [x, -f]^T, for the features f.

    Args:
        features: (series, width - 1).
        squared: (3, series) the squared response times 1, x and x^2.
    """
    corner, edge = squared[2].sum()[None, None], -(features.T @ squared[1])[:, None]
    inner = features.T @ (squared[0][:, None] * features)
    return torch.cat([torch.cat([corner, edge.T], dim=1), torch.cat([edge, inner], dim=1)])
