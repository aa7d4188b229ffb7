"""Preconditioners that are matrices, known through their inverse square roots."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gfm.errors import InputError

__all__ = ["MatrixPreconditioner", "Preconditioner"]


@dataclass(frozen=True)
class MatrixPreconditioner:
    """A symmetric positive definite matrix P (p, p), used like a diagonal one: ``V / P``, ``V / P**0.5``, ``s * P``.

    Args:
        inverse_root: the map of vectors (p,) or rows (k, p) to their products with P^{-1/2}.
        power: 1, or 0.5 for the root of P.

    Raises:
        InputError: A power other than one half is taken, or a power of a root.
    """

    inverse_root: Callable[[Tensor], Tensor]
    power: float = 1.0

    def __pow__(self, power: float) -> "MatrixPreconditioner":
        if power != 0.5 or self.power != 1.0:
            raise InputError("Of a matrix preconditioner only the square root can be taken.")
        return MatrixPreconditioner(self.inverse_root, 0.5)

    def __rtruediv__(self, V: Tensor) -> Tensor:
        V = self.inverse_root(V)
        return V if self.power == 0.5 else self.inverse_root(V)

    def __rmul__(self, scale: Tensor | float) -> "MatrixPreconditioner":
        """P times a positive number, or numbers (p,) that are equal within every block of P."""
        return MatrixPreconditioner(lambda V: self.inverse_root(V) / scale ** (0.5 / self.power), self.power)


Preconditioner = Tensor | float | MatrixPreconditioner
