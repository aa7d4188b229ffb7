"""The central flow of gradient descent with mini-batch noise, if one direction is critical.

Gradient noise of variance s2 along the unit top eigenvector u makes the displacement along u a random process.
Where its variance sigma^2 settles faster than the sharpness S changes, sigma^2 = (1 - lr S)^2 sigma^2 + lr^2 s2, so

    sigma^2 (2 / lr - S) = s2 / S.

Without noise one of the two factors on the left vanishes; with noise neither does: a barrier in the place of a wall.
Derived for this book.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torchdiffeq import odeint

from gfm.checks import number
from gfm.errors import InputError

__all__ = ["barrier_flow", "barrier_variance", "gap_at_rest"]


def barrier_variance(sharpness: Tensor, lr: float, noise: Tensor | float) -> Tensor:
    """``sigma^2 = s2 / (S (2 / lr - S))``, in squared weights; at and beyond the edge it is very large.

    Args:
        sharpness: (...) S, positive.
        lr: the learning rate.
        noise: (...) s2, the variance of the gradient's component along u.

    Example:
        >>> round(float(barrier_variance(torch.tensor(90.0), 0.02, 1.8)), 6)  # 1.8 / (90 * 10)
        0.002
    """
    edge = 2.0 / lr
    return noise / (sharpness * (edge - sharpness).clamp(min=1e-12 * edge))


def gap_at_rest(falls: Tensor, steepness: Tensor, sharpness: Tensor, noise: Tensor) -> Tensor:
    """``2 / lr - S = s2 |grad S|^2 / (2 S <-grad L, grad S>)``, where the sharpness is at rest.

    Args:
        falls: (...) <-grad L, grad S>, the rate at which descent raises the sharpness; unless it is positive, the gap
            has no meaning.
        steepness: (...) |grad S|^2.
        sharpness: (...) S.
        noise: (...) s2.
    """
    return noise * steepness / (2.0 * sharpness * falls)


def barrier_flow(
    w: Tensor, times: Tensor, gradient: Callable[[Tensor], Tensor], sharpness: Callable[[Tensor], Tensor],
    sharpness_gradient: Callable[[Tensor], Tensor], *, lr: float, noise: Tensor, rtol: float = 1e-7,
) -> tuple[Tensor, Tensor]:
    """Integrate ``dw/dt = -lr [grad L + sigma^2 grad S / 2]`` with the barrier's sigma^2, for several flows at once.

    Args:
        w: (m, p) starts, where the sharpness is below 2 / lr.
        times: (t,) in steps of the optimizer, rising; the first belongs to the start.
        gradient: of the loss, (m, p) -> (m, p).
        sharpness: (m, p) -> (m,).
        sharpness_gradient: (m, p) -> (m, p).
        lr: the learning rate.
        noise: (m,) s2, positive.
        rtol: relative tolerance of the adaptive solver (torchdiffeq's dopri5).

    Returns:
        Weights (t, m, p), and sigma^2 (t, m).

    Raises:
        InputError: There is no noise, or a start is at the edge or beyond.
    """
    number("lr", lr, lambda x: 0 < x < math.inf, "positive and finite")
    if not (noise > 0).all():
        raise InputError("The barrier needs noise of positive variance; without noise there is the central flow.")
    if not (sharpness(w) < 2.0 / lr).all():
        raise InputError("The flow with a barrier starts where the sharpness is below 2 / lr.")

    def rate(_: Tensor, v: Tensor) -> Tensor:
        variance = barrier_variance(sharpness(v), lr, noise)
        return -lr * (gradient(v) + 0.5 * variance[:, None] * sharpness_gradient(v))

    path = odeint(rate, w, times, method="dopri5", rtol=rtol, atol=1e-3 * rtol, options={"max_num_steps": 10**7})
    return path, torch.stack([barrier_variance(sharpness(v), lr, noise) for v in path])
