"""Largest eigenpairs of a symmetric operator given by its products with vectors.

Vectors are rows, ``(k, p)``, so that each vector is contiguous in memory, and a block product maps ``(k, p)`` to
``(k, p)``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse.linalg as sla
import torch
from torch import Tensor

from gfm.errors import InputError, NumericalError
from gfm.linalg import rayleigh_ritz

__all__ = ["Eigenpairs", "completed", "default_tolerance", "dense", "lanczos", "matrix", "refine"]

Product = Callable[[Tensor], Tensor]
#: Most rounds of ``refine``.
MOST_ROUNDS = 30


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs, largest eigenvalue first, with their cost and accuracy.

    Attributes:
        values: ``(k,)`` eigenvalues.
        vectors: ``(k, p)`` orthonormal rows.
        residuals: ``(k,)`` norms ``|A v - value v|`` divided by the largest ``|value|``.
        products: number of operator products.
        images: ``(k, p)`` A times the vectors, or None if they were not kept.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    images: Tensor | None

    def sharpened(self) -> Tensor:
        """Vectors ``(k, p)`` after one power step, A v / value, which scales each error by (its eigenvalue / value).

        Vectors whose eigenvalue is not well above zero are unchanged. The images must have been kept.
        """
        assert self.images is not None
        good = self.values > 0.1 * self.values.abs().max()
        return torch.where(good[:, None], self.images / torch.where(good, self.values, 1.0)[:, None], self.vectors)


def default_tolerance(dtype: torch.dtype) -> float:
    """A relative residual that products in ``dtype`` reach without wasted work."""
    return 1e-6 if dtype == torch.float64 else 1e-4


def matrix(product: Product, p: int, *, like: Tensor, width: int = 64) -> Tensor:
    """The operator as a stored matrix ``(p, p)``, by p products, ``width`` at a time, in ``like``'s dtype."""
    rows = torch.eye(p, dtype=like.dtype, device=like.device).split(width)
    return torch.cat([product(part) for part in rows])


def dense(matrix: Tensor, k: int) -> Eigenpairs:
    """The ``k`` largest eigenpairs of a stored symmetric matrix ``(p, p)``, the exact reference.

    Example:
        >>> dense(torch.diag(torch.tensor([1.0, 3.0, 2.0])), 2).values.tolist()
        [3.0, 2.0]
    """
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k].T.contiguous()
    images = vectors @ matrix
    return Eigenpairs(values, vectors, rayleigh_ritz.relative(images, values, vectors), matrix.shape[0], images)


def lanczos(
    product: Product, p: int, k: int, *, like: Tensor, tolerance: float | None = None, seed: int = 0
) -> Eigenpairs:
    """The ``k`` largest eigenpairs from a cold start, by ARPACK's implicitly restarted Lanczos.

    Args:
        product: block product ``(m, p) -> (m, p)``.
        p: the size of the matrix.
        k: number of pairs.
        like: a tensor that determines the vectors' dtype and device.
        tolerance: relative residual; by default chosen by the dtype.
        seed: of the random start.

    Raises:
        InputError: ``k`` is not in ``1..p``.
        NumericalError: The products are not finite, or fewer than ``k`` pairs are found.
    """
    if not 1 <= k <= p:
        raise InputError(f"The number of eigenpairs must lie in 1..{p}, but it is {k}.")
    tolerance = default_tolerance(like.dtype) if tolerance is None else tolerance
    if p <= 2 * k + 2 or p <= 32:  # ARPACK needs room for its Krylov space
        return dense(matrix(product, p, like=like), k)
    count = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        x = torch.tensor(v.reshape(1, -1), dtype=like.dtype, device=like.device)
        y = product(x).reshape(-1).to(working).cpu().numpy()
        if not np.isfinite(y).all():
            raise NumericalError("The operator's products are not finite; the weights have diverged.")
        return y

    # If p is large, few Krylov vectors in the operator's dtype: more products, but less memory.
    large = p > 200_000
    working = like.dtype if large else torch.float64
    kind = np.float32 if working == torch.float32 else np.float64
    start = np.random.default_rng(seed).standard_normal(p, dtype=kind)
    operator = sla.LinearOperator((p, p), matvec=matvec, dtype=kind)
    krylov = min(p, max(2 * k + 2, 8) if large else max(2 * k + 10, 20))
    try:
        values, vectors = sla.eigsh(
            operator, k=k, which="LA", v0=start, ncv=krylov, tol=tolerance, maxiter=50 * k + 200
        )
    except sla.ArpackNoConvergence as stopped:
        values, vectors = stopped.eigenvalues, stopped.eigenvectors
        if len(values) < k:
            raise NumericalError(
                f"Lanczos found {len(values)} of {k} eigenpairs; ask for fewer or loosen the tolerance."
            ) from stopped
    order = np.argsort(-values)
    rows = torch.as_tensor(np.ascontiguousarray(vectors.T)[order], dtype=like.dtype, device=like.device)
    del vectors
    ritz_values, rows, images = rayleigh_ritz.ritz(product, rayleigh_ritz.orthonormal(rows))
    residuals = rayleigh_ritz.relative(images, ritz_values, rows)
    return Eigenpairs(ritz_values, rows, residuals, count + rows.shape[0], images)


def completed(
    product: Product, pairs: Eigenpairs, rows: Tensor, *, wanted: int | None = None, tolerance: float | None = None
) -> Eigenpairs:
    """The pairs of ``lanczos``, with what it may have missed of an eigenvalue that occurs several times.

    A Krylov space of one vector holds one direction of each eigenspace; others enter by rounding, and may come too
    late. If ``rows`` (m, p), eigenvectors found before, hold one that is missing, the pairs are refined with it; m
    products tell. ``wanted`` and ``tolerance`` are as in ``refine``.
    """
    tolerance = default_tolerance(rows.dtype) if tolerance is None else tolerance
    new = rayleigh_ritz.orthonormal_against(rows.clone(), pairs.vectors)
    if pairs.images is None or not len(new):
        return pairs
    basis, images = torch.cat([pairs.vectors, new]), torch.cat([pairs.images, product(new)])
    spent, k = pairs.products + len(new), len(pairs.values)
    values, turn = rayleigh_ritz.eigh(basis @ images.T)
    if not (values[:k] - pairs.values > tolerance * rayleigh_ritz.scale(values)).any():
        return replace(pairs, products=spent)
    found = refine(product, turn[:, :k].T @ basis, wanted=wanted, tolerance=tolerance)
    return replace(found, products=spent + found.products)


def refine(
    product: Product, start: Tensor, *, wanted: int | None = None, tolerance: float | None = None
) -> Eigenpairs:
    """The largest eigenpairs from good starting vectors, by locally optimal block descent (LOBPCG).

    Only rows that have not converged are multiplied again, so a good start costs ``k`` products,
    and each further round as many as there are rows left. After ``MOST_ROUNDS`` the pairs are returned as they are.

    Args:
        product: block product ``(m, p) -> (m, p)``.
        start: ``(k, p)`` rows close to the wanted eigenvectors, not necessarily orthonormal.
        wanted: the first ``wanted`` pairs must converge (default all); the others are guards, for
            which 1000 times the tolerance is enough.
        tolerance: relative residual; by default chosen by the dtype.

    Source: Knyazev (2001), SIAM J. Sci. Comput. 23(2); the basis is orthogonalised as in
    Duersch et al. (2018).
    """
    k, p = start.shape
    if p <= 32:  # the whole matrix is cheaper, and the blocks below need room outside their span
        return dense(matrix(product, p, like=start), k)
    wanted = k if wanted is None else wanted
    tolerance = default_tolerance(start.dtype) if tolerance is None else tolerance
    goal = torch.full((k,), tolerance, dtype=start.dtype, device=start.device)
    goal[wanted:] = min(1000 * tolerance, 1e-2)
    rows = rayleigh_ritz.orthonormal(start)
    del start
    values, rows, images = rayleigh_ritz.ritz(product, rows)
    spent = k
    step: Tensor | None = None
    step_images: Tensor | None = None
    for _ in range(MOST_ROUNDS):
        residual = torch.addcmul(images, values[:, None], rows, value=-1)
        relative = residual.norm(dim=1) / rayleigh_ritz.scale(values)
        open_rows = relative > goal
        if not open_rows.any():
            return Eigenpairs(values, rows, relative, spent, images)
        new = rayleigh_ritz.orthonormal_against(residual[open_rows] if k > 1 else residual, rows)
        del residual
        if new.shape[0] == 0:
            break
        new_images = product(new)
        spent += new.shape[0]
        if step is not None and step_images is not None:
            step, step_images = rayleigh_ritz.outside(step, step_images, (rows, new), (images, new_images))
        basis: tuple[Tensor, ...] = (rows, new) if step is None else (rows, new, step)
        basis_images: tuple[Tensor, ...]
        basis_images = (images, new_images) if step_images is None else (images, new_images, step_images)
        values, turn = rayleigh_ritz.eigh(torch.cat([torch.cat([a @ b.T for b in basis_images], 1) for a in basis]))
        values, turn = values[:k], turn[:, :k]
        kept, grown = turn[:k].T, turn[k:].T
        # The part outside the old rows is the next step; new blocks replace old ones one by one, to save memory.
        step, step_images = rayleigh_ritz.combined(grown, basis[1:]), rayleigh_ritz.combined(grown, basis_images[1:])
        del basis, basis_images, new, new_images
        rows = torch.addmm(step, kept, rows)
        images = torch.addmm(step_images, kept, images)
    return Eigenpairs(values, rows, rayleigh_ritz.relative(images, values, rows), spent, images)
