"""What can be chosen about a learned flow, in groups; each group refuses what it cannot mean when it is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gfm.checks import one_of
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
        context: what the field sees of the prefix: ``"prefix"``, all observed states, or ``"ends"``, the first and the
            last.
        scale: unit of a run's coordinates, ``"none"``, ``"run"``, ``"layer"`` (one for each layer, by the groups) or
            ``"auto"``, the better of the first two (see :class:`Frame`).
        optimizer_state: whether the optimizer's recorded state enters the context
            (:mod:`gfm.matching.optimizer_state`); ``"auto"`` tries it where the training runs hold one.
        products: whether a context with the optimizer's state is also multiplied by powers of each weight's second
            moment, so that steep and flat directions have fields of their own (three times the coefficients).
        ridges: strengths of the ridge penalty on the drive to choose from; 0 is plain least squares, infinity no drive.

    Raises:
        InputError: a value that is none of these.
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
        if len(self.ridges) == 0 or min(self.ridges) < 0:
            raise InputError(f"ridges must be non-negative numbers, at least one; got {self.ridges}.")


@dataclass(frozen=True)
class Network:
    """The network that corrects the affine field, and what it is matched to.

    Args:
        hidden: widths of its hidden layers.
        state, time: whether it sees the state of the flow, and the time (coordinate view only; the vector view's
            network sees the weights and nothing else).
        target: what it is matched to in the coordinate view: ``"velocity"`` (conditional flow matching),
            ``"end-point"`` (where the flow arrives, through its integration) or ``"both"``.
        samples: places on paths in a training step.
        always: keep the network even where it does not forecast the validation runs better by two standard errors.

    Raises:
        InputError: a value that is none of these.
    """

    hidden: tuple[int, ...] = (64, 64)
    state: bool = False
    time: bool = True
    target: str = "velocity"
    samples: int = 2048
    always: bool = False

    def __post_init__(self) -> None:
        one_of("target", self.target, TARGETS)
        if self.samples < 1 or min(self.hidden, default=1) < 1:
            raise InputError("samples and the widths of hidden layers must be at least 1.")


@dataclass(frozen=True)
class FlowOptions:
    """All that a :class:`Flow` is told beside the number of observed states; see the groups.

    Args:
        network: None for no network.
        damping: ``"auto"`` lets the coordinate view damp runs that slow down faster than
            the fitted ones (:mod:`gfm.matching.damping`), for networks unlike those; ``"cautious"`` also shrinks
            forecasts that go farther than the run's own speed suggests (:mod:`gfm.matching.shrinkage`); ``"none"`` does
            neither.

    Raises:
        InputError: an unknown damping.
    """

    conditioning: Conditioning = Conditioning()
    network: Network | None = Network()
    path: IncrementPath = IncrementPath(span=10)
    solver: Solver = Solver()
    damping: str = "none"
    training: Training = Training(rate=1e-2, batch=16, epochs=120, patience=40, schedule="one-cycle")

    def __post_init__(self) -> None:
        one_of("damping", self.damping, DAMPINGS)
