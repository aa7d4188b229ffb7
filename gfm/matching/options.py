"""The options of a learned flow, in groups; each group checks its values when it is created."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfm.checks import flag, one_of, whole
from gfm.errors import InputError
from gfm.forecasting.training import Training
from gfm.matching.damping import DAMPINGS
from gfm.matching.frame import CONTEXTS, SCALES
from gfm.matching.integrate import Solver
from gfm.matching.path import IncrementPath

__all__ = ["RIDGES", "TARGETS", "Conditioning", "FlowOptions", "Network"]

RIDGES = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)
TARGETS = ("velocity", "end-point", "both")


@dataclass(frozen=True)
class Conditioning:
    """How the coordinate view's field depends on the prefix of the weight that it moves.

    Args:
        context: the part of the prefix that the field uses: ``"prefix"``, all observed states, or ``"ends"``, the
            first and the last.
        scale: unit of a run's coordinates: ``"none"``, ``"run"``, ``"layer"`` (one for each layer, by the groups) or
            ``"auto"``, the better of the first two (see :class:`Frame`).
        optimizer_state: whether the context contains the optimizer's recorded state
            (:mod:`gfm.matching.optimizer_state`); ``"auto"`` tries both if the training runs have one.
        products: whether a context with the optimizer's state is also multiplied by polynomials of each weight's
            log second moment, so that steep and flat directions have different fields (three times the coefficients).
        ridges: candidate strengths of the ridge penalty on the drive; 0 is plain least squares, infinity no drive.

    Raises:
        InputError: A value is unknown or out of range.
    """

    context: str = "prefix"
    scale: str = "auto"
    optimizer_state: bool | str = "auto"
    products: bool = False
    ridges: tuple[float, ...] = RIDGES

    def __post_init__(self) -> None:
        one_of("context", self.context, CONTEXTS)
        one_of("scale", self.scale, (*SCALES, "auto"))
        one_of("optimizer_state", self.optimizer_state, (True, False, "auto"))
        flag("products", self.products)
        if not isinstance(self.ridges, tuple) or not self.ridges or not all(ridge >= 0 for ridge in self.ridges):
            raise InputError(f"ridges must be a tuple of non-negative numbers, at least one; got {self.ridges!r}.")


@dataclass(frozen=True)
class Network:
    """The network that corrects the affine field, and what it is matched to.

    Args:
        hidden: widths of its hidden layers.
        state, time: whether the flow's state and the time are inputs (coordinate view only; in the vector view the
            weights are the only input).
        target: what it is matched to in the coordinate view: ``"velocity"`` (conditional flow matching),
            ``"end-point"`` (the states that the integrated flow reaches) or ``"both"``.
        samples: places on paths per training step.
        always: keep the network even if it does not improve the validation forecasts by two standard errors.

    Raises:
        InputError: A value is unknown or out of range.
    """

    hidden: tuple[int, ...] = (64, 64)
    state: bool = False
    time: bool = True
    target: str = "velocity"
    samples: int = 2048
    always: bool = False

    def __post_init__(self) -> None:
        one_of("target", self.target, TARGETS)
        whole("samples", self.samples, 1)
        if not isinstance(self.hidden, tuple):
            raise InputError(f"hidden must be a tuple of widths, but it is {self.hidden!r}")
        for width in self.hidden:
            whole("a width in hidden", width, 1)


@dataclass(frozen=True)
class FlowOptions:
    """All options of a :class:`Flow` except the number of observed states; see the groups.

    Args:
        network: None for no network.
        damping: ``"auto"`` lets the coordinate view damp runs that slow down faster than the fitted ones
            (:mod:`gfm.matching.damping`), as other networks may; ``"cautious"`` also shrinks forecasts that go
            farther than the run's own speed suggests (:mod:`gfm.matching.shrinkage`); ``"none"`` does neither.

    Raises:
        InputError: The damping is unknown.
    """

    conditioning: Conditioning = Conditioning()
    network: Network | None = Network()
    path: IncrementPath = IncrementPath(span=10)
    solver: Solver = Solver()
    damping: str = "none"
    training: Training = Training(rate=1e-2, batch=16, epochs=120, patience=40, schedule="one-cycle")

    def __post_init__(self) -> None:
        kinds = {"conditioning": Conditioning, "path": IncrementPath, "solver": Solver, "training": Training}
        if self.network is not None:
            kinds["network"] = Network
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be a {kind.__name__}(...), but it is {getattr(self, name)!r}")
        one_of("damping", self.damping, DAMPINGS)
