"""Where descent along any linear filter of the gradient loses stability, and how steadily it can stay there.

On a quadratic of curvature S, a rule that steps by w_{t+1} = (1 - decay) w_t - lr (Q g)_t multiplies w by the roots of

    z - 1 + decay + lr S Q(z) = 0,        Q(z) = (n_0 + n_1 / z + ...) / (d_0 + d_1 / z + ...)

At the edge of stability a root lies on the unit circle: lr S is (1 - decay - z) / Q(z) at some z = exp(i omega). For
a real S this must be real, which leaves a few omega: roots of a polynomial in cos omega. The edge is the least positive
value among them. At z = -1, where most rules leave, it is (2 - decay) / Q(-1).

**At the edge** of a valley S(y) x^2 / 2 + c (y - y*)^2 / 2, S = S* exp(a y), a y* = e, swings x = Re(X z^t) keep y at
0, where S = S*. The excess e is the rise of ln S if there were no swings; g = lr Q(1) c is the rate of y. A small
disturbance y ~ (1 + v)^t changes ln S by a y, and so ln X by a y (kappa / v + kappa tau), where kappa and kappa tau are
the first terms at v = 0 of -lr S Q / (z - 1 + lr S Q), taken at z (1 + v). The force on y is proportional to S X^2 and
delayed by the filter:

    v + g (1 - delay v) (1 + e + 2 e Re(kappa / v + kappa tau)) = 0

For small g, 1 + v lies inside the unit circle if

    1 + e (1 + 2 Re(kappa (tau - delay - 1)) + Re(kappa Q(z^2) / (Q(1) (z^2 - 1)))) > 0

The last term applies only if z is complex: then y and S also oscillate at z^2. For a heavy ball with momentum b, tau
is -delay, and the edge is held steadily up to e = 1 / (4 ((1 + b) / (1 - b))^2 - 1), which is 1/3 without momentum.

Derived for this book; the first criterion is Nyquist's. The second is for slow g and one direction that swings.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from gfm.checks import number
from gfm.errors import InputError

__all__ = ["Edge", "edge_of_stability", "steady_excess"]

_NEAR = 1e-7  # relative rounding error of computed roots


class Edge(NamedTuple):
    """Where stability ends.

    Args:
        level: learning rate times curvature.
        root: the root on the unit circle; of a conjugate pair, the one with positive imaginary part.
    """

    level: float
    root: complex

    @property
    def period(self) -> float:
        """The period, in steps, of the oscillation at the edge."""
        return 2.0 * math.pi / math.atan2(self.root.imag, self.root.real)


def edge_of_stability(n: Sequence[float] = (1.0,), d: Sequence[float] = (1.0,), decay: float = 0.0) -> Edge:
    """The least learning rate times curvature at which a root lies on the unit circle.

    Args:
        n: coefficients of the filter's numerator; a constant gradient gives a positive response.
        d: those of its denominator.
        decay: share of the weights that a step subtracts.

    Raises:
        InputError: The filter is unstable by itself, its response is not positive, or ``decay`` is not in [0, 2).

    Example:
        >>> edge_of_stability()  # gradient descent
        Edge(level=2.0, root=(-1+0j))
        >>> round(edge_of_stability((1.0,), (1.0, -0.9)).level, 6)  # a heavy ball: 2 (1 + 0.9)
        3.8
        >>> round(edge_of_stability((0.0, 1.0)).period, 6)  # a gradient delayed by one step
        6.0
    """
    above, below = _checked(n, d)
    number("decay", decay, lambda x: 0 <= x < 2, "a number in [0, 2)")
    size = len(above)
    # Numerator and filter times z^(size - 1), as polynomials in z.
    moving, filtered = np.polymul([-1.0, 1.0 - decay], below), np.append(0.0, above)
    # 1 / z is the conjugate of z on the circle, so Im(moving conj(filtered)) is a sum of sines of multiples of omega.
    product = np.convolve(moving, filtered[::-1])
    sines = product[size - 1::-1] - product[size + 1:]
    edges = []
    for z in (-1.0 + 0.0j, *_zeros(sines)):  # not 1, since the response to a constant is positive
        response = np.polyval(filtered, z)
        if abs(response) > _NEAR * abs(above).sum():
            level = float((np.polyval(moving, z) / response).real)
            edges += [Edge(level, z)] if level > _NEAR else []
    return min(edges, key=lambda edge: edge.level)


def steady_excess(n: Sequence[float] = (1.0,), d: Sequence[float] = (1.0,)) -> float:
    """The excess, a logarithm, up to which swings hold the edge of a valley steadily; infinite if they always do.

    Beyond it the sharpness does not settle at the edge but rises and falls in bursts.

    Args:
        n: coefficients of the filter's numerator; a constant gradient gives a positive response.
        d: those of its denominator.

    Raises:
        InputError: The filter is unstable by itself or its response is not positive.

    Example:
        >>> round(1 / steady_excess(), 6), round(1 / steady_excess((1.0,), (1.0, -0.5)), 6)
        (3.0, 35.0)
    """
    (level, z), (above, below) = edge_of_stability(n, d), _checked(n, d)
    gain, ages = above.sum() / below.sum(), np.arange(len(above))
    whole = np.polyadd(np.polymul([1.0, -1.0], below), level * above)
    slope, bend = (np.polyval(np.polyder(whole, m), z) for m in (1, 2))
    response, tilt = np.polyval(above, z), np.polyval(np.polyder(above), z)
    kappa, tau = -level * response / (slope * z), z * (tilt / response - bend / (2.0 * slope))
    delay = ages @ above / above.sum() - ages @ below / below.sum()
    total = 1.0 + 2.0 * (kappa * (tau - delay - 1.0)).real
    if z.imag:
        twice = np.polyval(above, z * z) / np.polyval(below, z * z) / gain
        total += (kappa * twice / (z * z - 1.0)).real
    return float(-1.0 / total) if total < 0 else math.inf


def _checked(n: Sequence[float], d: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients as arrays of one length."""
    if not (np.isfinite([*n, *d]).all() and len(d) and d[0] and (abs(np.roots(d)) < 1).all()):
        raise InputError("A filter needs finite coefficients, d_0 not zero, and poles inside the unit circle.")
    if not (len(n) and sum(n) / sum(d) > 0):
        raise InputError("A filter must answer a constant gradient with a positive step.")
    size = max(len(n), len(d))
    first, second = (np.pad(np.array(x, dtype=float), (0, size - len(x))) for x in (n, d))
    return first, second


def _zeros(sines: np.ndarray) -> list[complex]:
    """The z = exp(i omega), omega in (0, pi), at which sum_k sines[k - 1] sin(k omega) is zero."""
    series = np.zeros(len(sines))  # coefficients of cos(k omega)
    for k, amount in enumerate(sines):
        # sin((k + 1) omega) / sin(omega) = 2 cos(k omega) + 2 cos((k - 2) omega) + ..., which ends in 1 if k is even
        series[k::-2] += 2.0 * amount
    series[0] /= 2.0
    series[abs(series) < 1e-14 * abs(series).max()] = 0.0
    roots = chebyshev.chebroots(np.trim_zeros(series, "b")) if series.any() else np.zeros(0)
    real = roots.real[(abs(np.imag(roots)) < _NEAR) & (abs(roots.real) < 1.0)]
    return [complex(x, math.sqrt(1.0 - x * x)) for x in real]
