"""How the flows of a run are computed."""

import math
from dataclasses import dataclass

from gfm.checks import flag, number, whole
from gfm.errors import InputError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How the flows of a run are computed; values are checked on creation.

    Args:
        substeps: least number of Euler substeps in a step; more are taken where the flow's equations are stiffer: at
            large effective eigenvalues, which momentum allows, or if the second moment has a short memory.
        adaptive: shorten the central flow's substeps if it exceeds the edge; see ``gfm.central.control``.
        refresh_substeps: compute eigenvectors in every substep, not once per step.
        dense: compute them from the full Hessian; exact, for small p.
        band: how far the central flow may exceed the edge, relative to it. None: 1e-4 in float64, or 5e-4 for an
            optimizer with second moments; 1e-3 in float32.
        critical_share: see ``gfm.central.substep.local_flow``.
        curvature_penalty: see ``gfm.central.substep.local_flow``.
        eigen_every: steps between eigenvalue measurements of the discrete and midpoint processes.
        track: least number of eigenpairs; the stable flow has exactly this many.
        cap: largest number of eigenpairs.
        tolerance: relative residual of the central flow's eigenpairs; None: 1e-5 in float64, 1e-4 in float32.
        discrete_tolerance: the same for the other processes, whose paths do not depend on their eigenpairs; the
            error of an eigenvalue is about its square.
        max_effective: the stable flow stops beyond this effective eigenvalue, since it would need more and more
            substeps.
        coordinates: number of evenly spaced weights whose squared gradient and second moment are recorded.

    Raises:
        InputError: A value is out of range, or ``track`` exceeds ``cap``.
    """

    substeps: int = 4
    adaptive: bool = True
    refresh_substeps: bool = False
    dense: bool = False
    band: float | None = None
    critical_share: float = 0.975
    curvature_penalty: bool = True
    eigen_every: int = 1
    track: int = 1
    cap: int = 12
    tolerance: float | None = None
    discrete_tolerance: float = 1e-3
    max_effective: float = 100.0
    coordinates: int = 0

    def __post_init__(self) -> None:
        for name in ("substeps", "eigen_every", "track", "cap"):
            self._set(name, whole(name, getattr(self, name), 1))
        self._set("coordinates", whole("coordinates", self.coordinates, 0))
        for name in ("adaptive", "refresh_substeps", "dense", "curvature_penalty"):
            self._set(name, flag(name, getattr(self, name)))
        if self.band is not None:
            self._set("band", number("band", self.band, lambda x: 0 <= x < math.inf, "a number of at least 0"))
        for name in ("critical_share", "tolerance", "discrete_tolerance"):
            if name != "tolerance" or self.tolerance is not None:
                self._set(name, number(name, getattr(self, name), lambda x: 0 < x <= 1, "a number in (0, 1]"))
        self._set("max_effective", number("max_effective", self.max_effective, lambda x: x > 0, "a positive number"))
        if self.track > self.cap:
            raise InputError(f"track asks for {self.track} eigenpairs at least, but cap allows {self.cap} at most.")

    @staticmethod
    def usual_band(dtype: str, moving: bool) -> float:
        """The band that ``None`` stands for, relative to the edge.

        With second moments the preconditioner changes and turns the eigenvectors within each step: with a band of 1e-4
        every step would be repeated.

        Args:
            dtype: in which the flow is computed, such as ``"float64"``.
            moving: whether the optimizer has second moments.
        """
        return 1e-3 if dtype != "float64" else 5e-4 if moving else 1e-4

    def _set(self, name: str, value: float | bool) -> None:
        object.__setattr__(self, name, value)
