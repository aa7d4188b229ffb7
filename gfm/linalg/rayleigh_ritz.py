"""The steps of the Rayleigh-Ritz method on a few vectors stored as rows (k, p); the eigen-solvers consist of them.

They are: an orthonormal basis of a subspace, the eigenpairs of the operator's small matrix in that basis, the Ritz
vectors, and their residuals.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gfm.errors import NumericalError

__all__ = ["combined", "eigh", "orthonormal", "orthonormal_against", "outside", "relative", "ritz", "scale"]


def scale(values: Tensor) -> Tensor:
    """The largest absolute value (0-d), relative to which residuals are measured; never zero."""
    return values.abs().max().clamp(min=torch.finfo(values.dtype).tiny)


def relative(images: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    """``|A v - value v| / max|value|`` (k,) for rows v and their images A v (k, p)."""
    return torch.addcmul(images, values[:, None], rows, value=-1).norm(dim=1) / scale(values)


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (k,), largest first, and eigenvectors (k, k; columns) of a small symmetric matrix (k, k).

    Raises:
        NumericalError: An entry is not finite.
    """
    small = matrix.detach().double().cpu().numpy()
    if not np.isfinite(small).all():
        raise NumericalError("The operator's products are not finite; the weights have diverged.")
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    return (
        torch.as_tensor(values[::-1].copy(), dtype=matrix.dtype, device=matrix.device),
        torch.as_tensor(vectors[:, ::-1].copy(), dtype=matrix.dtype, device=matrix.device),
    )


def ritz(product: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ritz values (k,) in the span of orthonormal rows, the Ritz vectors and their images (k, p), by k products."""
    images = product(rows)
    values, turn = eigh(rows @ images.T)
    return values, turn.T @ rows, turn.T @ images


def orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal rows (k, p) close to the given ones (Loewdin), or by QR if those are nearly dependent."""
    if rows.shape[0] == 1:
        return rows / rows.norm()
    lengths = rows.norm(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh(((rows / lengths) @ (rows / lengths).T).double())
    if not values[0] > 1e-2:
        return torch.linalg.qr(rows.T)[0].T.contiguous()
    turn = (vectors / values.sqrt()) @ vectors.T
    return (turn / lengths.T.double()).to(rows.dtype) @ rows


def orthonormal_against(new: Tensor, rows: Tensor) -> Tensor:
    """Orthonormal rows that span the part of ``new`` (m, p) orthogonal to ``rows`` (k, p); changes ``new``."""
    new /= new.norm(dim=1, keepdim=True).clamp(min=torch.finfo(new.dtype).tiny)
    for _ in range(2):
        new.addmm_(new @ rows.T, rows, alpha=-1)
    lengths = new.norm(dim=1)
    good = lengths > 100 * torch.finfo(new.dtype).eps
    if not good.all():
        new = new[good]
    if new.shape[0] == 0:
        return new
    new = orthonormal(new)
    new.addmm_(new @ rows.T, rows, alpha=-1)
    return new.div_(new.norm(dim=1, keepdim=True))


def outside(
    step: Tensor, images: Tensor, basis: tuple[Tensor, ...], basis_images: tuple[Tensor, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """The last step's directions, orthonormal and orthogonal to the basis, and their images without new products.

    All blocks are rows (k, p); None if nothing remains of the directions.
    """
    for _ in range(2):
        for block, block_images in zip(basis, basis_images, strict=True):
            overlap = step @ block.T
            step.addmm_(overlap, block, alpha=-1)
            images.addmm_(overlap, block_images, alpha=-1)
    kept = step.norm(dim=1) > 1e3 * torch.finfo(step.dtype).eps
    if not kept.any():
        return None, None
    if not kept.all():
        step, images = step[kept], images[kept]
    values, vectors = torch.linalg.eigh((step @ step.T).double())
    good = values > values.max() * 1e-8
    turn = (vectors[:, good] / values[good].sqrt()).T.to(step.dtype)
    return turn @ step, turn @ images


def combined(turn: Tensor, blocks: tuple[Tensor, ...]) -> Tensor:
    """Turn (k, sum of rows) times the stacked blocks, without stacking them."""
    parts = turn.split([len(block) for block in blocks], dim=1)
    total = parts[0] @ blocks[0]
    for part, block in zip(parts[1:], blocks[1:], strict=True):
        total.addmm_(part, block)
    return total
