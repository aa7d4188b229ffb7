"""Linear filters of the gradients: all that a flow needs to know of momentum.

A rule with a filter Q steps by w_{t+1} = (1 - decay) w_t - P^{-1} (Q g)_t / Q(1), where 1 / z delays the gradient by a
step. At fixed P, an eigenvalue theta of P^{-1} H multiplies its component of w by the roots z of

    z - 1 + decay + theta Q(z) / Q(1) = 0

A rule has a flow if the first root to leave the unit circle leaves it at z = -1, at theta = (2 - decay) Q(1) / Q(-1).
Slowly varying gradients pass the filter with a delay of -Q'(1) / Q(1) steps.

    rule           Q(z)                                threshold at decay 0
    descent        1                                   2
    heavy ball     1 / (1 - b / z)                     2 (1 + b) / (1 - b)
    Nesterov       1 + b / (1 - b / z)                 2 (1 + b) / ((1 - b) (1 + 2 b))
    Adam           (1 - b) / (1 - b / z)               2 (1 + b) / (1 - b)
    NAdam          (1 - b) (1 + b / (1 - b / z))       2 (1 + b) / ((1 - b) (1 + 2 b))

Central Flows (arXiv 2410.24206) has the first row; the others are derived for this book in the same way, by averaging
the update over the oscillation.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gfm.checks import flag, number
from gfm.errors import InputError
from gfm.optimizers.stability import edge_of_stability

__all__ = ["Filter"]


@dataclass(frozen=True)
class Filter:
    """Q(z) = (n_0 + n_1 / z + ...) / (d_0 + d_1 / z + ...).

    Args:
        n, d: coefficients; d_0 is not zero.
        corrected: whether Adam's bias correction is applied, for filters with one pole: the result is divided by the
            share of its response to a constant gradient that it has reached, which grows from the first step on.

    Raises:
        InputError: Coefficients are not numbers, Q is not positive at 1 and -1, or no correction is known.

    Example:
        >>> momentum = Filter((1.0,), (1.0, -0.9))
        >>> round(momentum.gain, 6), round(momentum.threshold, 6), round(momentum.delay, 6)
        (10.0, 38.0, 9.0)
    """

    n: tuple[float, ...] = (1.0,)
    d: tuple[float, ...] = (1.0,)
    corrected: bool = False

    def __post_init__(self) -> None:
        flag("corrected", self.corrected)
        for name in ("n", "d"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise InputError(f"{name} must be a tuple of coefficients, but it is {value!r}.")
            what = f"a filter needs finite coefficients: each of {name}"
            object.__setattr__(self, name, tuple(number(what, x, math.isfinite, "a finite number") for x in value))
        if not (self.n and self.d and self.d[0]):
            raise InputError(f"A filter needs finite coefficients, d_0 not zero, but they are {self.n} and {self.d}.")
        if not all(math.isfinite(q) and q > 0 for q in (self._at(1.0), self._at(-1.0))):
            raise InputError("A filter must pass gradients, constant or of alternating sign, with a positive factor.")
        if self.corrected and not (len(self.n) <= len(self.d) <= 2 and self._pole >= 0.0):
            raise InputError("A bias correction is known only for filters with one pole, which is not negative.")

    def _at(self, sign: float) -> float:
        """Q(1) or Q(-1)."""
        n, d = (sum(x * sign**k for k, x in enumerate(values)) for values in (self.n, self.d))
        return n / d if d else math.inf

    @property
    def _pole(self) -> float:
        """The pole if there is exactly one, otherwise 0."""
        return -self.d[1] / self.d[0] if len(self.d) == 2 else 0.0

    @property
    def gain(self) -> float:
        """Q(1), the response to a constant gradient."""
        return self._at(1.0)

    @property
    def threshold(self) -> float:
        """2 Q(1) / Q(-1), without weight decay."""
        return 2.0 * self._at(1.0) / self._at(-1.0)

    @property
    def delay(self) -> float:
        """-Q'(1) / Q(1) in steps: the mean age of the gradients in a step."""
        ages = (sum(k * x for k, x in enumerate(values)) / sum(values) for values in (self.n, self.d))
        return next(ages) - next(ages)

    def started(self, t: float) -> tuple[float, float]:
        """The share of the response to a constant gradient reached at step ``t`` (counted from 1), and its rate.

        Without bias correction they are 1 and 0.
        """
        if not self.corrected or not self._pole:
            return 1.0, 0.0
        left = (1.0 - self.n[0] / self.d[0] / self.gain) * self._pole ** (t - 1.0)
        return 1.0 - left, -left * math.log(self._pole)

    def check(self, decay: float = 0.0) -> None:
        """Check that the first root to leave the unit circle is -1.

        Args:
            decay: the largest share of the weights that a step subtracts.

        Raises:
            InputError: Other roots leave it at a smaller eigenvalue, or a pole is outside it.
        """
        edge, opposite = edge_of_stability(self.n, self.d, decay), (2.0 - decay) / self._at(-1.0)
        if edge.level < (1.0 - 1e-6) * opposite:
            raise InputError(
                f"The filter does not first oscillate with period two, so that no flow is derived for it: it turns, in "
                f"{edge.period:.3g} steps, from {edge.level / opposite:.3g} of the threshold {self.threshold:.4g} on."
            )

    # --- its state: v_t = g_t - d_1 v_{t-1} - ... for d_0 = 1, newest first -----------------------

    def _parts(self) -> tuple[float, list[float], list[float]]:
        """The gradient's own share c, and the weights of v_t, v_{t-1}, ... in the result and in their recursion."""
        n, d = ([x / self.d[0] for x in values] for values in (self.n, self.d))
        through = n[-1] / d[-1] if len(n) == len(d) > 1 and d[-1] else 0.0
        taps = [x - through * y for x, y in zip(n[:-1], d[:-1], strict=True)] if through else n
        return through, taps, [-x for x in d[1:]]

    def init(self, w: Tensor) -> Tensor | None:
        """The state at the start for weights (p,): zeros (p,), or (rows, p) for several vectors; None for Q = n_0."""
        _, taps, back = self._parts()
        rows = max(len(taps), len(back))
        if rows == 1 and not back:
            return None
        return torch.zeros_like(w) if rows == 1 else w.new_zeros((rows, len(w)))

    def update(self, kept: Tensor | None, g: Tensor) -> Tensor | None:
        """The state, of the shape of ``init``'s, after a gradient (p,)."""
        if kept is None:
            return None
        rows = kept if kept.ndim > 1 else kept[None]
        new = g
        for weight, row in zip(self._parts()[2], rows, strict=False):
            new = weight * row + new
        return new if kept.ndim == 1 else torch.cat([new[None], rows[:-1]])

    def output(self, kept: Tensor | None, g: Tensor, t: float) -> Tensor:
        """Q g / Q(1), (p,), with any bias correction, from the state that includes the gradient (p,) of step ``t``."""
        if kept is None:
            return g
        through, taps, _ = self._parts()
        size = self.gain * self.started(t)[0]
        total = torch.tensordot(g.new_tensor(taps) / size, kept if kept.ndim > 1 else kept[None], 1)
        return total.add_(g, alpha=through / size) if through else total
