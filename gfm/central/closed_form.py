"""The oscillation's variance under Scalar RMSProp in closed form, if one eigenvalue is critical.

Scalar RMSProp divides by one number, sqrt(nu). Its effective sharpness S_eff = lr S / sqrt(nu) can be
held at 2 in two ways: the weights move to where the sharpness S is lower, or the oscillation raises nu. The
variance sigma^2 (of the displacement along the unit top eigenvector) that holds it at 2 is a weighted mean of
the two values that each way alone would require::

    sigma^2 = (a sigma_gd^2 + b sigma_ngd^2) / (a + b),   a = beta2 |grad S|^2 / 2,
                                                          b = (1 - beta2) S^2 / lr^2

with ``sigma_gd^2 = 2 <-grad L, grad S> / |grad S|^2`` of gradient descent (beta2 = 1: nu is constant), and
``sigma_ngd^2 = lr^2 / 4 - |grad L|^2 / S^2`` of normalised gradient descent (beta2 = 0: nu is the
present squared gradient). If the mean is negative, there is no oscillation.

In the functions ``gradient`` is grad L (p,), ``sharpness_gradient`` grad S = D^3 L[u, u] (p,) for the unit top
eigenvector u, and ``sharpness`` S, positive like ``lr``.

Source: Central Flows (arXiv 2410.24206), section on Scalar RMSProp; derived from d S_eff / dt = 0.
"""

import math

from torch import Tensor

from gfm.checks import number
from gfm.errors import InputError

__all__ = [
    "effective_sharpness_rate", "gradient_descent_variance", "normalised_variance", "penalty_share",
    "scalar_rmsprop_variance",
]


def gradient_descent_variance(gradient: Tensor, sharpness_gradient: Tensor) -> float:
    """``sigma^2 = 2 <-grad L, grad S> / |grad S|^2``, in squared weights; negative if the sharpness falls anyway.

    Both gradients have shape (p,).

    Raises:
        InputError: The shapes differ, or the sharpness has no gradient.
    """
    steepness = _squares(gradient, sharpness_gradient)
    if steepness == 0:
        raise InputError("The sharpness has no gradient here, so no oscillation can hold it in place.")
    return -2.0 * float(gradient @ sharpness_gradient) / steepness


def normalised_variance(gradient: Tensor, sharpness: float, lr: float) -> float:
    """``sigma^2 = lr^2 / 4 - |grad L|^2 / S^2`` for ``w <- w - lr g / |g|`` with gradient (p,).

    Its effective sharpness ``lr S / |g|`` is held at 2 if the mean squared gradient,
    ``|grad L|^2 + sigma^2 S^2``, equals (lr S / 2)^2.

    Raises:
        InputError: ``sharpness`` or ``lr`` is not positive.
    """
    _positive(sharpness=sharpness, lr=lr)
    return lr**2 / 4.0 - float(gradient @ gradient) / sharpness**2


def scalar_rmsprop_variance(
    gradient: Tensor, sharpness_gradient: Tensor, sharpness: float, lr: float, beta2: float
) -> float:
    """sigma^2 at the edge of stability; 0 if the effective sharpness would fall without oscillation.

    It is the mean squared displacement along u, in squared weights, and increases with ``lr``. Both gradients have
    shape (p,); ``beta2`` goes from 0 (normalised gradient descent) to 1 (gradient descent).

    Raises:
        InputError: A value is out of range, the shapes differ, or beta2 = 1 and grad S vanishes.
    """
    number("beta2", beta2, lambda x: 0.0 <= x <= 1.0, "a number in [0, 1]")
    _positive(sharpness=sharpness, lr=lr)
    _squares(gradient, sharpness_gradient)  # refuses other shapes
    by_weights, by_memory = _answers(sharpness_gradient, sharpness, lr, beta2)
    if by_weights + by_memory == 0:
        raise InputError("The sharpness has no gradient here, so no oscillation can hold it in place.")
    # Multiplied out, so that a vanishing grad S is not a special case.
    pull = -beta2 * float(gradient @ sharpness_gradient)
    pull += by_memory * normalised_variance(gradient, sharpness, lr)
    return max(0.0, pull / (by_weights + by_memory))


def effective_sharpness_rate(
    gradient: Tensor, sharpness_gradient: Tensor, sharpness: float, lr: float, beta2: float, variance: float
) -> float:
    """``d log S_eff / dt`` per step along the central flow with this variance, at the edge of stability.

    S_eff = lr S / sqrt(nu) changes because S changes along dw/dt = -(2 / S)(grad L + variance grad S / 2), and
    because nu = (lr S / 2)^2 changes at the rate ``(1 - beta2) / beta2 (|grad L|^2 + variance S^2 - nu)``.

    Raises:
        InputError: A value is out of range (beta2 must lie in (0, 1]), or the shapes differ.
    """
    number("beta2", beta2, lambda x: 0.0 < x <= 1.0, "a number in (0, 1]")
    _positive(sharpness=sharpness, lr=lr)
    push = float(gradient @ sharpness_gradient) + 0.5 * variance * _squares(gradient, sharpness_gradient)
    of_sharpness = -2.0 * push / sharpness**2
    nu = (lr * sharpness / 2.0) ** 2
    observed = float(gradient @ gradient) + variance * sharpness**2
    return of_sharpness - 0.5 * (1.0 - beta2) / beta2 * (observed / nu - 1.0)


def penalty_share(sharpness_gradient: Tensor, sharpness: float, lr: float, beta2: float) -> float:
    """The share a / (a + b), 0 to 1, that the curvature penalty has in holding the effective sharpness at 2.

    The penalty moves the weights to where the sharpness is lower; the rest comes from the rise of nu.

    Raises:
        InputError: A value is out of range (beta2 must lie in (0, 1)), or grad S is no finite vector.
    """
    number("beta2", beta2, lambda x: 0.0 < x < 1.0, "a number in (0, 1)")
    _positive(sharpness=sharpness, lr=lr)
    steepness = _squares(sharpness_gradient, sharpness_gradient)
    if not math.isfinite(steepness):
        raise InputError("The gradient of the sharpness is not finite here, so it has no share.")
    by_weights, by_memory = _answers(sharpness_gradient, sharpness, lr, beta2)
    return by_weights / (by_weights + by_memory)


def _answers(sharpness_gradient: Tensor, sharpness: float, lr: float, beta2: float) -> tuple[float, float]:
    """The weights a and b: how strongly the network's weights and nu respond to the variance."""
    return 0.5 * beta2 * float(sharpness_gradient @ sharpness_gradient), (1.0 - beta2) * (sharpness / lr) ** 2


def _squares(gradient: Tensor, sharpness_gradient: Tensor) -> float:
    if gradient.shape != sharpness_gradient.shape or gradient.ndim != 1:
        raise InputError(
            f"Both gradients must have shape (p,), but they have {tuple(gradient.shape)} and "
            f"{tuple(sharpness_gradient.shape)}."
        )
    return float(sharpness_gradient @ sharpness_gradient)


def _positive(**values: float) -> None:
    for name, value in values.items():
        number(name, value, lambda x: 0 < x < math.inf, "positive and finite")
