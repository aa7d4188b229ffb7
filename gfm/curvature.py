"""Curvature along a run: the largest eigenpairs of the effective Hessian P^{-1} H, and the full Hessian.

The symmetric form S = P^{-1/2} H P^{-1/2} has the same eigenvalues; with orthonormal eigenvectors
v of S, the rows u = P^{-1/2} v satisfy H u = lambda P u and u_i^T P u_j = delta_ij.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gfm.errors import InputError
from gfm.linalg import deflation, eigen
from gfm.linalg.preconditioner import MatrixPreconditioner, Preconditioner
from gfm.linalg.row_history import RowHistory
from gfm.problem import Problem
from gfm.problem.derivatives import Derivatives

__all__ = ["Spectrum", "Tracker", "dense_hessian"]


@dataclass(frozen=True)
class Spectrum:
    """Tracked eigenpairs at one point, largest first.

    Attributes:
        values: (k,) eigenvalues of P^{-1} H.
        U: (k, p) rows with U P U^T = I.
        residuals: (k,) relative residuals.
        products: number of Hessian-vector products.
    """

    values: Tensor
    U: Tensor
    residuals: Tensor
    products: int


class Tracker:
    """Warm-started eigenpairs whose number adapts to the run.

    One pair below ``above`` is always kept as a guard. When the guard rises above ``above``, another pair is
    added (by a cold solve, so that none is missed); when two lie well below it, the last is dropped. Starting
    vectors are extrapolated from the last refreshes, or are those of the last one if a block is large
    (``deflation.LARGE``). Before they are stored for that, vectors are sharpened by one power step, which costs no
    product: their remaining errors lie mostly along eigenvectors with small eigenvalues, and extrapolation would
    amplify them.

    Args:
        above: all eigenvalues above this are tracked (runs use 0.75 of the optimizer's threshold).
        initial: number of pairs at the start, and the least number kept.
        cap: largest number of pairs; ``capped`` says whether the last refresh found all of them above ``above``.
        tolerance: relative residual of pairs above ``above``; by default chosen by the dtype.
        check_every: refreshes between cold solves, which find pairs that were missed.
        grow: False keeps the number at ``initial``.
        lag: 1 if the path is smooth, 2 if it has period two (the oscillating optimizer):
            starting vectors are those of that many refreshes ago; on a smooth path they are also extrapolated.
        dense: compute every refresh from the full Hessian, for small p; exact, with p products each.
    """

    def __init__(
        self, *, above: float = 1.5, initial: int = 1, cap: int = 12, tolerance: float | None = None,
        check_every: int = 200, grow: bool = True, lag: int = 1, dense: bool = False,
    ):
        self.above, self.initial, self.cap = above, initial, cap
        self.tolerance, self.check_every = tolerance, check_every
        self.grow, self.lag, self.dense = grow, lag, dense
        self._rows: Tensor | None = None  # (k, p) orthonormal, symmetric form
        self.past = RowHistory()  # those of the last refreshes, sharpened and aligned
        self.refreshes = 0
        self.capped = False

    @property
    def rows(self) -> Tensor:
        """(k, p) orthonormal eigenvectors of the symmetric form, from the first refresh on."""
        assert self._rows is not None
        return self._rows

    @property
    def width(self) -> int:
        """Number of vectors in the next block product."""
        return self.initial if self._rows is None else len(self._rows)

    def refresh(
        self, point: Derivatives, P: Preconditioner, *, time: float | None = None, tolerance: float = 0.0
    ) -> Spectrum:
        """The tracked pairs at ``point``.

        Args:
            point: the derivatives there.
            P: the preconditioner, a number, 0-d, (p,) or a matrix.
            time: of the point on its path; by default one unit after the last refresh.
            tolerance: used this time if it is coarser than the tracker's own.

        Raises:
            NumericalError: The Hessian's products are not finite.
        """
        root = P**0.5

        def product(V: Tensor) -> Tensor:
            if isinstance(P, MatrixPreconditioner):
                return point.hvp(V / root) / root
            if isinstance(root, Tensor) and root.ndim:
                return point.hvp(V / root).div_(root)
            return point.hvp(V).div_(P)

        time = self.past.next if time is None else time
        cold = self.dense or self._rows is None or (self.refreshes and self.refreshes % self.check_every == 0)
        self.refreshes += 1
        pairs = self._cold(product, point, self.width) if cold else self._warm(product, time, tolerance)
        spent = pairs.products
        while self._short(pairs.values) and len(pairs.values) < self._most(point):
            pairs = self._cold(product, point, len(pairs.values) + 1)
            spent += pairs.products
        self.capped = self._short(pairs.values) and self._most(point) == self.cap
        rows = self._aligned(pairs.vectors)
        kept = self._kept(pairs.values)
        self._rows = rows[:kept]
        self._remember(time, pairs, kept)
        return Spectrum(pairs.values, rows / root, pairs.residuals, spent)

    def ahead(self, time: float) -> Tensor | None:
        """The rows (k, p) of the symmetric form expected at ``time``, after the last refresh; None without a rate."""
        past = self.past
        if len(past) < 2 or len(past.newest) != len(self.rows):
            return None
        # The stored rows span nearly the same space as the tracked ones, in a rotated basis.
        moved = past.rate().mul_(time - past.times[0])
        return torch.addmm(self.rows, self.rows @ past.newest.T, moved)

    def restart(self, rows: Tensor, time: float) -> None:
        """Go back to ``time``, when the tracked rows were ``rows`` (k, p).

        Additional pairs found since then are kept as starting vectors.
        """
        self._rows = torch.cat([rows, self.rows[len(rows) :]])
        self.past.forget(time)

    def state_dict(self) -> dict[str, Any]:
        """The state on which later refreshes depend: tensors and plain containers."""
        return {"rows": self._rows, "past": self.past.state_dict(), "refreshes": self.refreshes}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Continue from the ``state_dict`` of a tracker with the same options."""
        self._rows, self.refreshes = kept["rows"], kept["refreshes"]
        self.past.load_state_dict(kept["past"])

    def _short(self, values: Tensor) -> bool:
        return self.grow and float(values[-1]) >= self.above

    def _most(self, point: Derivatives) -> int:
        return min(self.cap, point.problem.p)

    def _kept(self, values: Tensor) -> int:
        """Number of pairs to keep: one guard below ``above``; a second one is dropped once both are clearly below."""
        clearly_below = int((values < 0.8 * self.above).sum())
        return max(self.initial, len(values) - max(clearly_below - 1, 0)) if self.grow else len(values)

    def _cold(self, product: eigen.Product, point: Derivatives, k: int) -> eigen.Eigenpairs:
        w = point.gradient
        if self.dense:
            return eigen.dense(eigen.matrix(product, w.numel(), like=w), k)
        options: dict[str, Any] = {
            "like": w, "tolerance": self.tolerance, "seed": self.refreshes, "wanted": self._wanted(k),
        }
        if k * w.numel() <= deflation.LARGE or self._rows is None:
            pairs = deflation.largest(product, w.numel(), k, **options)
            if self._rows is None:
                return pairs
            return eigen.completed(product, pairs, self._rows, wanted=options["wanted"], tolerance=self.tolerance)
        # Large rows are released while new ones are computed, but for a sample that determines the signs.
        before, self._rows = self._rows[:, ::1000].clone(), None
        self.past.forget()
        pairs = deflation.largest(product, w.numel(), k, **options)
        shared = min(len(before), k)
        agree = (pairs.vectors[:shared, ::1000] * before[:shared]).sum(1, keepdim=True)
        pairs.vectors[:shared].mul_(torch.where(agree < 0, -1.0, 1.0).to(w.dtype))
        return pairs

    def _warm(self, product: eigen.Product, time: float, coarser: float) -> eigen.Eigenpairs:
        wanted = self._wanted(self.width)
        rows = self.rows
        tolerance = max(coarser, self.tolerance or eigen.default_tolerance(rows.dtype))
        if rows.numel() > deflation.LARGE:
            return deflation.one_by_one(product, rows, wanted=wanted, tolerance=tolerance)
        return eigen.refine(product, self._start(time), wanted=wanted, tolerance=tolerance)

    def _wanted(self, count: int) -> int:
        """Number of pairs that must converge: all but the guard."""
        return max(1, count - 1) if self.grow else count

    def _start(self, time: float) -> Tensor:
        if not len(self.past) or len(self.past.newest) != len(self.rows):
            return self.rows
        return self.past.rows[min(1, len(self.past) - 1)] if self.lag == 2 else self.past.at(time)

    def _remember(self, time: float, pairs: eigen.Eigenpairs, kept: int) -> None:
        """Store the first ``kept`` vectors, sharpened."""
        if pairs.images is None:
            self.past.forget()  # the next refresh starts at the tracked rows
        else:  # the guard has not converged; keep it out of the rotation
            self.past.add(time, pairs.sharpened()[:kept], self._wanted(kept))

    def _aligned(self, rows: Tensor) -> Tensor:
        """The rows with signs that agree with the last refresh, so that curves along eigenvectors are continuous."""
        if self._rows is None:
            return rows
        m = min(len(rows), len(self._rows))
        signs = torch.ones(len(rows), dtype=rows.dtype, device=rows.device)
        agree = (rows[:m] * self._rows[:m]).sum(1)
        signs[:m] = torch.where(agree < 0, -1.0, 1.0).to(rows.dtype)
        return signs[:, None] * rows


def dense_hessian(problem: Problem, w: Tensor, *, limit: int = 5000) -> Tensor:
    """H(w) (p, p), by p products on one kept graph; exact, for small p.

    Raises:
        InputError: p exceeds ``limit``, which guards against storing p^2 numbers by accident.
    """
    if problem.p > limit:
        raise InputError(
            f"A dense Hessian of {problem.p} weights needs {problem.p**2} numbers; raise limit above "
            f"{limit} if that is meant."
        )
    width = min(problem.p, 64)
    point = problem.at(w, width)
    H = eigen.matrix(point.hvp, problem.p, like=w, width=width)
    return (H + H.T) / 2
