"""Eigenpairs of operators on large vectors, computed one after the other to save memory."""

import numpy as np
import torch
from torch import Tensor

from gfm.errors import NumericalError
from gfm.linalg import rayleigh_ritz
from gfm.linalg.eigen import Eigenpairs, Product, default_tolerance, lanczos

__all__ = ["LARGE", "largest", "one_by_one"]

#: Blocks with more numbers than this are processed one row at a time.
LARGE = 5_000_000
#: Most products for one eigenvector.
MOST = 300


def largest(
    product: Product, p: int, k: int, *, like: Tensor, tolerance: float | None = None, seed: int = 0,
    wanted: int | None = None,
) -> Eigenpairs:
    """The ``k`` largest eigenpairs from a cold start: by ``lanczos``, or by ``one_by_one`` if blocks are large.

    Arguments and errors are those of the two functions; the block product maps (m, p) to (m, p).
    """
    if not 1 <= k <= p or k * p <= LARGE:
        return lanczos(product, p, k, like=like, tolerance=tolerance, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(k, p, dtype=like.dtype, generator=generator).to(like.device)
    return one_by_one(product, start, wanted=wanted, tolerance=tolerance)


def one_by_one(
    product: Product, start: Tensor, *, wanted: int | None = None, tolerance: float | None = None
) -> Eigenpairs:
    """The largest eigenpairs one after the other, with memory for five vectors in addition to the rows.

    Arguments are as in ``eigen.refine``, but ``start`` ``(k, p)`` is overwritten with the eigenvectors, and
    each row is improved separately, orthogonal to those before it. It takes more products if eigenvalues
    are close together.
    """
    k = len(start)
    wanted = k if wanted is None else wanted
    tolerance = default_tolerance(start.dtype) if tolerance is None else tolerance
    values: list[float] = []
    residuals: list[float] = []
    spent = 0
    for i in range(k):
        goal = tolerance if i < wanted else min(1000 * tolerance, 1e-2)
        largest = max(map(abs, values), default=0.0)
        value, relative, products = _improved(product, start[i : i + 1], start[:i], goal, largest)
        values.append(value)
        residuals.append(relative)
        spent += products
    order = sorted(range(k), key=lambda i: -values[i])
    if order != list(range(k)):
        start.copy_(start[order])
    found = start.new_tensor([[values[i], residuals[i]] for i in order])
    return Eigenpairs(found[:, 0], start, found[:, 1], spent, None)


def _improved(product: Product, row: Tensor, before: Tensor, goal: float, largest: float) -> tuple[float, float, int]:
    """Turn ``row`` (1, p), in place, into the top eigenvector orthogonal to the rows ``before``.

    Returns its eigenvalue, its relative residual and the number of products.
    """
    _apart(row, before)
    image = product(row)
    spent = 1
    step: Tensor | None = None
    step_image: Tensor | None = None
    while True:
        value = float(row @ image.T)
        if not np.isfinite(value):
            raise NumericalError("The operator's products are not finite; the weights have diverged.")
        new = torch.add(image, row, alpha=-value)
        new.addmm_(new @ before.T, before, alpha=-1)
        relative = float(new.norm()) / max(abs(value), largest, torch.finfo(row.dtype).tiny)
        if relative <= goal or spent > MOST:
            return value, relative, spent
        _apart(new, before)
        _apart(new, row)
        new_image = product(new)
        spent += 1
        if step is not None and step_image is not None and not _beside(
            step, step_image, ((row, image), (new, new_image))
        ):
            step = step_image = None
        basis = [(row, image), (new, new_image)]
        if step is not None and step_image is not None:
            basis.append((step, step_image))
        _, turn = rayleigh_ritz.eigh(torch.cat([torch.cat([a @ b.T for _, b in basis], 1) for a, _ in basis]))
        share: list[float] = (turn[:, 0] if turn[0, 0] > 0 else -turn[:, 0]).tolist()  # the row keeps its sign
        for old, fresh in ((step, new), (step_image, new_image)):
            fresh.mul_(share[1])
            if old is not None:
                fresh.add_(old, alpha=share[2])
        step, step_image = new, new_image
        row.mul_(share[0]).add_(step)
        image.mul_(share[0]).add_(step_image)
        del basis, old, fresh, new, new_image


def _apart(row: Tensor, before: Tensor) -> None:
    """Make ``row`` (1, p) orthogonal to orthonormal rows and of length 1, in place (two passes suffice)."""
    for _ in range(2):
        row.addmm_(row @ before.T, before, alpha=-1)
        row.div_(row.norm())


def _beside(step: Tensor, image: Tensor, basis: tuple[tuple[Tensor, Tensor], ...]) -> bool:
    """Make ``step`` orthogonal to the basis and of length 1, and its image with it, in place; False if it vanishes."""
    length = float(step.norm())
    for _ in range(2):
        for vector, its_image in basis:
            overlap = float(step @ vector.T)
            step.add_(vector, alpha=-overlap)
            image.add_(its_image, alpha=-overlap)
    left = float(step.norm())
    if not left > 1e3 * torch.finfo(step.dtype).eps * length:
        return False
    step.div_(left)
    image.div_(left)
    return True
