"""The options of a learned flow, in groups; each group checks its values when it is created."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from gfm.checks import flag, number, one_of, whole
from gfm.errors import InputError
from gfm.forecasting.training import Training
from gfm.matching.damping import DAMPINGS
from gfm.matching.field import STATES
from gfm.matching.frame import CONTEXTS, SCALES
from gfm.matching.integrate import Solver
from gfm.matching.path import IncrementPath

__all__ = ["RIDGES", "Conditioning", "FlowOptions", "Network"]

RIDGES = (0.0, 1e-12, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, np.inf)


@dataclass(frozen=True)
class Conditioning:
    """How the coordinate view's field depends on the prefix of the weight that it moves.

    Options that are ``"auto"`` are chosen by the validation forecasts.

    Args:
        context: the part of the prefix that the field uses: ``"prefix"``, all observed states, ``"ends"``, the
            first and the last, or ``"auto"``.
        scale: unit of a run's coordinates: ``"none"`` (the same for all runs), ``"run"``, ``"layer"`` (one for each
            layer, by the groups) or ``"auto"``, the better of the first two (see :class:`Frame`).
        optimizer_state: whether the optimizer's recorded state is used: by the matched flow as further inputs and in
            the optimizer's rule, or with ``"inputs"`` as inputs only, which is all that the affine flow makes of it;
            ``"auto"`` tries False and True if there is one.

    Raises:
        InputError: A value is unknown.
    """

    context: str = "prefix"
    scale: str = "auto"
    optimizer_state: bool | str = "auto"

    def __post_init__(self) -> None:
        one_of("context", self.context, (*CONTEXTS, "auto"))
        one_of("scale", self.scale, (*SCALES, "auto"))
        one_of("optimizer_state", self.optimizer_state, (True, False, "inputs", "auto"))

    def choices(self, recorded: bool) -> list[tuple[bool | str, str, str]]:
        """(use of the optimizer's state, scale, context) of every candidate, simplest first.

        Args:
            recorded: whether the trajectories contain the optimizer's state.
        """
        if self.optimizer_state == "auto":
            states: tuple[bool | str, ...] = (False, True) if recorded else (False,)
        else:
            states = (self.optimizer_state if self.optimizer_state == "inputs" else bool(self.optimizer_state),)
        scales = ("none", "run") if self.scale == "auto" else (self.scale,)
        contexts = CONTEXTS if self.context == "auto" else (self.context,)
        return list(product(states, scales, contexts))


@dataclass(frozen=True)
class Network:
    """The network of the field, and how densely it is matched.

    Args:
        hidden: widths of the perceptron's hidden layers; empty for the linear layer alone.
        state: how the field depends on the place of the weight (:class:`NetworkField`; coordinate view).
        knots: number of times at which the network gives the field's coefficients (coordinate view).
        times: places on each path per training step.

    Raises:
        InputError: A value is unknown or out of range.
    """

    hidden: tuple[int, ...] = (64, 64)
    state: str = "restoring"
    knots: int = 10
    times: int = 32

    def __post_init__(self) -> None:
        one_of("state", self.state, STATES)
        whole("knots", self.knots, 1)
        whole("times", self.times, 1)
        if not isinstance(self.hidden, tuple):
            raise InputError(f"hidden must be a tuple of widths, but it is {self.hidden!r}.")
        for width in self.hidden:
            whole("A width in hidden", width, 1)


@dataclass(frozen=True)
class FlowOptions:
    """All options of a :class:`Flow` except the number of observed states; see the groups.

    Args:
        network: None for the affine flow, which has none.
        path, training: the conditional path, and how the network is trained.
        ridges: candidate strengths of the ridge penalty on the affine flow's drive; 0 is plain least squares,
            infinity no drive.
        products: whether a context with the optimizer's state is also multiplied by polynomials of each weight's
            log second moment, so that steep and flat directions have different affine flows (three times the
            coefficients).
        damping: ``"auto"`` damps runs that slow down faster than the fitted ones, as runs of other networks may
            (:mod:`gfm.matching.damping`); ``"cautious"`` also shrinks forecasts that go farther than the run's own
            speed suggests (:mod:`gfm.matching.shrinkage`); ``"none"`` does neither.

    Raises:
        InputError: A value is unknown or out of range.
    """

    conditioning: Conditioning = Conditioning()
    solver: Solver = Solver()
    network: Network | None = None
    path: IncrementPath = IncrementPath()
    training: Training = Training(rate=1e-3, batch=64, epochs=80, patience=80, schedule="one-cycle")
    ridges: tuple[float, ...] = RIDGES
    products: bool = False
    damping: str = "none"

    def __post_init__(self) -> None:
        kinds = {"conditioning": Conditioning, "path": IncrementPath, "solver": Solver, "training": Training}
        if self.network is not None:
            kinds["network"] = Network
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be a {kind.__name__}(...), but it is {getattr(self, name)!r}.")
        if not isinstance(self.ridges, tuple) or not self.ridges:
            raise InputError(f"ridges must be a tuple of non-negative numbers, at least one; got {self.ridges!r}.")
        for ridge in self.ridges:
            number("Each of ridges", ridge, lambda value: value >= 0, "a non-negative number")
        flag("products", self.products)
        one_of("damping", self.damping, DAMPINGS)
