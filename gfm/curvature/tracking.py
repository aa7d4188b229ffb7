"""The largest eigenpairs of the effective Hessian P^{-1} H, followed along a run.

The symmetric form S = P^{-1/2} H P^{-1/2} has the same eigenvalues; with orthonormal eigenvectors
v of S, the rows u = P^{-1/2} v satisfy H u = lambda P u and u_i^T P u_j = delta_ij.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from gfm import eigen
from gfm.point import Point

__all__ = ["Spectrum", "Tracker"]


@dataclass(frozen=True)
class Spectrum:
    """Tracked eigenpairs at one point, largest first.

    values: (k,) eigenvalues of P^{-1} H. U: (k, p) rows with U P U^T = I.
    residuals: (k,) relative. products: Hessian-vector products spent. converged: see ``Eigenpairs``.
    """

    values: Tensor
    U: Tensor
    residuals: Tensor
    products: int
    converged: bool


class Tracker:
    """Warm-started eigenpairs whose number follows the run.

    One pair below ``above`` is always kept as a guard; when the guard rises past ``above`` another
    pair is added (by a cold solve, so that none is missed), and when two lie well below it the
    last is dropped. Starts are extrapolated through the last three refreshes.

    Args:
        above: eigenvalues above this are all tracked (1.5, or 0.75 of the optimizer's threshold).
        initial: pairs at the start, and the least that is kept.
        cap: the most pairs; a warning says when it binds.
        tolerance: relative residual of pairs above ``above``; by default fit to the dtype.
        check_every: refreshes between cold solves that look for a pair that was missed.
        grow: False keeps the number at ``initial``.
        lag: 1 where the path is smooth, 2 where it has period two (the oscillating optimizer):
            starts come from that many refreshes ago; a smooth path is also extrapolated.
    """

    def __init__(
        self,
        *,
        above: float = 1.5,
        initial: int = 1,
        cap: int = 12,
        tolerance: float | None = None,
        check_every: int = 200,
        grow: bool = True,
        lag: int = 1,
    ):
        self.above, self.initial, self.cap = above, initial, cap
        self.tolerance, self.check_every = tolerance, check_every
        self.grow, self.lag = grow, lag
        self.rows: Tensor | None = None  # (k, p) orthonormal, symmetric form
        self.before: Tensor | None = None  # the same one refresh earlier
        self.earlier: Tensor | None = None  # and two refreshes earlier
        self.refreshes = 0
        self._warned = False

    @property
    def width(self) -> int:
        """Vectors of the next block product."""
        return self.initial if self.rows is None else self.rows.shape[0]

    def refresh(self, point: Point, P: Tensor | float) -> Spectrum:
        """The tracked pairs at ``point`` under preconditioner ``P`` (number, 0-d or (p,)).

        Raises:
            NumericalError: the Hessian's products are not finite.
        """
        root = P**0.5

        def product(V: Tensor) -> Tensor:
            return point.hvp(V / root) / root

        spent = 0
        cold = self.rows is None or (self.refreshes and self.refreshes % self.check_every == 0)
        self.refreshes += 1
        pairs = self._cold(product, point, self.width) if cold else self._warm(product)
        spent += pairs.products
        while self._short(pairs.values) and len(pairs.values) < self._most(point):
            pairs = self._cold(product, point, len(pairs.values) + 1)
            spent += pairs.products
        if self._short(pairs.values) and not self._warned and self._most(point) == self.cap:
            self._warned = True
            warnings.warn(
                f"all {self.cap} tracked eigenvalues are above {self.above:g}; raise the cap, or the flow "
                "will miss critical directions",
                stacklevel=2,
            )
        rows = self._aligned(pairs.vectors)
        self.earlier, self.before, self.rows = self.before, self.rows, rows[: self._kept(pairs.values)]
        return Spectrum(pairs.values, rows / root, pairs.residuals, spent, pairs.converged)

    def _short(self, values: Tensor) -> bool:
        return self.grow and float(values[-1]) >= self.above

    def _most(self, point: Point) -> int:
        return min(self.cap, point.problem.p)

    def _kept(self, values: Tensor) -> int:
        """One guard below ``above``; a second one may go once both are clearly below."""
        clearly_below = int((values < 0.8 * self.above).sum())
        return max(self.initial, len(values) - max(clearly_below - 1, 0)) if self.grow else len(values)

    def _cold(self, product: eigen.Product, point: Point, k: int) -> eigen.Eigenpairs:
        w = point.gradient
        return eigen.lanczos(product, w.numel(), k, like=w, tolerance=self.tolerance, seed=self.refreshes)

    def _warm(self, product: eigen.Product) -> eigen.Eigenpairs:
        wanted = max(1, self.width - 1)
        return eigen.refine(product, self._start(), wanted=wanted, tolerance=self.tolerance)

    def _start(self) -> Tensor:
        """Rows extrapolated through the last refreshes, as far as these have the same number of rows."""
        rows, before, earlier = self.rows, self.before, self.earlier
        self.earlier = None  # not needed again; its memory may go
        if before is None or before.shape != rows.shape:
            return rows
        if self.lag == 2:
            return before
        before = _turned(before, rows)
        if earlier is None or earlier.shape != rows.shape:
            return (2 * rows).sub_(before)
        return _turned(earlier, rows).add_(rows, alpha=3).sub_(before, alpha=3)

    def _aligned(self, rows: Tensor) -> Tensor:
        """Signs that agree with the last refresh, so that curves along eigenvectors are continuous."""
        if self.rows is None:
            return rows
        m = min(len(rows), len(self.rows))
        signs = torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
        agree = (rows[:m] * self.rows[:m]).sum(1)
        signs[:m] = torch.where(agree < 0, -1.0, 1.0).to(rows.dtype)
        return signs[:, None] * rows


def _turned(rows: Tensor, onto: Tensor) -> Tensor:
    """``rows`` turned within their span to lie best on the rows ``onto`` (Procrustes), in new memory."""
    overlap = onto @ rows.T
    if len(rows) == 1:
        return torch.copysign(torch.ones_like(overlap), overlap) * rows
    u, _, vt = torch.linalg.svd(overlap)
    return (u @ vt) @ rows
