"""Faster ways to compute derivatives, tried on a problem before they are used for it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gfm.problem.feed_forward import FeedForward
from gfm.problem.output_derivatives import in_closed_form
from gfm.problem.sweeps import Sweeps
from gfm.randomness import restoring

if TYPE_CHECKING:
    from gfm.problem import Problem

__all__ = ["as_feed_forward", "many_vectors"]


def as_feed_forward(problem: "Problem") -> FeedForward | None:
    """The module as a feed-forward network, if it is one and the sweeps' derivatives agree with those of the graph.

    The problem must not have such a network yet. First to third derivatives are compared near the module's own weights.
    """
    network = FeedForward.of(problem.module, problem.inputs)
    if network is None or not in_closed_form(problem.row_loss):
        return None
    inputs, targets, _ = next(problem.pieces())
    if problem.objective.loss_reads_weights(problem.w0, inputs, targets):
        return None
    u, v = _directions(problem)
    w = problem.w0 + 0.1 * problem.w0.square().mean().sqrt() * v
    sweeps, point = Sweeps(network, w, inputs.detach(), targets.detach(), problem.row_loss), problem.at(w)
    decay, along = problem.objective.weight_decay, sweeps.along(torch.stack([u, v]))
    swept = [
        sweeps.value + 0.5 * decay * (w @ w), sweeps.gradient + decay * w, along.image[0] + decay * u,
        along.third([0], along, [1])[0],
    ]
    return network if _alike([point.loss, point.gradient, point.hvp(u[None])[0], point.third(u, v)], swept) else None


def many_vectors(problem: "Problem") -> bool:
    """Whether products with several vectors at once are right, by a network with a copy of the weights for each vector.

    First to third derivatives for two vectors at once are compared with those for one after the other. Recurrent
    layers, branches that depend on data and outputs allocated beforehand do not allow several vectors at once.
    """
    inputs, targets, _ = next(problem.pieces())

    def loss(w: Tensor) -> Tensor:
        return problem.piece_loss(w, inputs, targets)

    V = _directions(problem)

    def derivatives(values: Tensor, leaf: Tensor) -> list[Tensor]:
        found = [values.detach()]
        image = values.sum()
        for _ in range(3):
            if not image.requires_grad:
                break
            (rows,) = torch.autograd.grad(image, leaf, create_graph=True, materialize_grads=True)
            found.append(rows.detach())
            image = (rows * V).sum()
        return found

    size = problem.w0.square().mean().sqrt()
    leaf = (problem.w0 + 0.1 * size * V.flip(0)).requires_grad_()
    with restoring(problem.device):
        one = derivatives(torch.stack([loss(row) for row in leaf]), leaf)
        try:
            together = derivatives(torch.func.vmap(loss)(leaf), leaf)
        except Exception:  # torch raises many kinds of errors here
            return False
    return _alike(one, together)


def _directions(problem: "Problem") -> Tensor:
    """Two directions (2, p)."""
    draw = torch.Generator(device="cpu").manual_seed(1)
    return torch.randn(2, problem.p, generator=draw, dtype=problem.dtype).to(problem.device)


def _alike(expected: list[Tensor], found: list[Tensor]) -> bool:
    """Whether tensors are the same up to the rounding of their dtype."""
    tolerance = 1e-8 if expected[0].dtype == torch.float64 else 1e-2
    return len(expected) == len(found) and all(
        float((a - b).norm()) <= tolerance * float(a.norm()) + 1e-12 for a, b in zip(expected, found, strict=True)
    )
