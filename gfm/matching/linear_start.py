"""The linear start of the network: the least-squares solution of its own matching problem."""

from __future__ import annotations

import torch
from torch import Tensor

from gfm.matching.course import Course
from gfm.matching.field import LEAST, NetworkField

__all__ = ["RIDGES", "linear_starts"]

RIDGES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 0.0)
"""Candidate ridges, relative to the mean square of each feature."""
MOST = 20_000
"""Most series from which the start is computed."""


def linear_starts(
    network: NetworkField, course: Course, context: Tensor, n: int, span: int
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """(kappa, b, q) of the network's linear layer for every one of ``RIDGES``; see :meth:`NetworkField.start`.

    The velocity of x is affine in g, so that two evaluations of the rule give the g that a step shows. The
    coefficients are piecewise linear in time: the normal equations couple neighbouring knots only. The features of a
    series are the same at all its steps, so that what depends on the step is summed before it meets them.

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
    alone, coupled = features.new_zeros(2, knots, 3, len(some))  # at a knot, and of a knot with the following one
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
        given = LEAST * z[..., 0] if network.state == "restoring" else zero  # with the kappa of the start
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
    gram, right = features.new_zeros(knots, width, knots, width), features.new_zeros(knots, width)
    for knot in range(knots):
        gram[knot, :, knot] = _block(features, alone[knot])
        right[knot, 0], right[knot, 1:] = shown[knot, 1].sum(), -features.T @ shown[knot, 0]
        if knot + 1 < knots:
            gram[knot, :, knot + 1] = gram[knot + 1, :, knot] = _block(features, coupled[knot])
    gram, right = gram.view(knots * width, -1), right.view(-1)
    size = gram.diagonal().sqrt()
    size[size == 0] = 1.0
    values, vectors = torch.linalg.eigh(gram / size[:, None] / size)
    inside = vectors.T @ (right / size)
    solved = values > values[-1] * 1e-14
    q = None
    if network.squares:
        mean = squares[0].sum() / squares[1].sum()
        q = torch.where(squares[1] > 0, squares[0] / squares[1], mean)  # few steps leave some knots without any
    out = []
    for ridge in RIDGES:
        gain = torch.where(solved, inside / (values + ridge).clamp_min(torch.finfo(values.dtype).tiny), 0.0)
        found = (vectors @ gain / size).view(knots, width)
        out.append((found[:, 0], found[:, 1:], q))
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
