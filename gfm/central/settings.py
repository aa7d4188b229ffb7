"""What the processes of a run share, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gfm.checks import flag, number, whole
from gfm.errors import InputError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What the processes share.

    substeps: Euler substeps a step, at least. adaptive: where the central flow's top effective
    eigenvalue passes the edge by more than ``band`` (relative; None: in float64 1e-4, or 5e-4 under
    an optimizer with second moments, else 1e-3), halve its substep, down to 1/16, and take a step
    again that ends there. refresh_substeps: compute eigenvectors in every substep, not once a step.
    dense: take them from the whole Hessian, exact and for small p.
    critical_share, curvature_penalty: see ``local_flow``.
    eigen_every: steps between eigenvalue measurements of discrete and midpoint processes.
    track: eigenpairs at least (exactly so many for the stable flow). cap: at most.
    tolerance: relative residual of the central flow's eigenpairs (None: fit to the dtype).
    discrete_tolerance: of those of the others, where nothing depends on them (an eigenvalue's error
    is the square).
    max_effective: a stable flow with a larger effective eigenvalue is stopped, since its substeps
    would never end. coordinates: of so many evenly spaced weights, the squared gradient and the
    second-moment average are recorded one by one.

    Raises:
        InputError: a value outside its range, or ``track`` above ``cap``.
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
            raise InputError(f"track asks for {self.track} eigenpairs at least, but cap allows {self.cap} at most")

    def _set(self, name: str, value: float | bool) -> None:
        object.__setattr__(self, name, value)
