"""The interface of every forecaster, which also checks the input for all of them."""

import time
from abc import ABC, abstractmethod
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch

from gfm.autograd import with_gradients
from gfm.checks import MOST, enough_memory, whole
from gfm.errors import GfmError, InputError, said
from gfm.forecasting.report import NOT_HELD_OUT, FitReport
from gfm.forecasting.training import usable
from gfm.trajectories import Trajectories

__all__ = ["Forecaster", "register", "registered"]

registered: "dict[str, type[Forecaster]]" = {}
"""Name -> class of each forecaster whose module is imported; ``gfm.forecasters.available`` imports them all."""

T = TypeVar("T", bound="type[Forecaster]")


def register(cls: T) -> T:
    """Class decorator that registers a forecaster under its ``name``."""
    registered[cls.name] = cls
    return cls


class Forecaster(ABC):
    """A method that continues observed weights.

    Subclasses define ``_forecast(prefix, horizon)`` and, if they learn, ``_fit(train, validation, report)``, both
    on checked trajectories; ``report.device`` says where to train a network.

    Args:
        observed: the number n of the last observed state: states 0..n are the prefix. By default (None) a tenth of
            the training trajectories' steps, as in the least-squares sets (20 of 200).

    Raises:
        InputError: ``observed`` is not a whole number of at least 1.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    coordinatewise: bool = True
    """Whether the number of weights may differ between fitting and forecasting."""
    bounded: ClassVar[bool] = True
    """Whether a fitted model forecasts no further than it was fitted for."""

    def __init__(self, observed: int | None = None) -> None:
        self.observed = None if observed is None else whole("observed", observed, 1)
        self.report: FitReport | None = None

    @property
    def fitted(self) -> FitReport:
        """The report of the last fit.

        Raises:
            GfmError: The forecaster has not been fitted.
        """
        if self.report is None:
            raise GfmError(f"The forecaster {self.name!r} is not fitted yet; call fit(train) first.")
        return self.report

    # -- public ----------------------------------------------------------------------------------
    def fit(
        self, train: Trajectories, validation: Trajectories | None = None, *, max_weights: int | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Learn from complete trajectories; returns self.

        Args:
            train: the runs to learn from.
            validation: runs that decide on options and on when training stops; without them a part of ``train`` is
                used, or all of it (the report's note ``held_out`` says which).
            max_weights: the largest number of weights of each run that are used, drawn at random by a fixed seed; the
                same in all runs and in ``validation``. Time and memory of the fit grow with this number only. It is
                accepted only by forecasters that treat weights one by one.
            device: where a network is trained by gradient descent, ``"cpu"`` (the default) or ``"cuda"``. It makes no
                difference to forecasters, or parts of them, that are fitted in closed form or learn nothing. The fitted
                model is always on the CPU.

        Raises:
            InputError: ``train`` or ``validation`` is not a Trajectories, ``train`` is too short for ``observed`` or
                has uneven steps, the two differ in their numbers of states or parameters, ``max_weights`` is below 1
                or given to a forecaster that looks at all weights together, or the device is unknown or not available.
        """
        where = usable(device)
        for part in (train,) if validation is None else (train, validation):
            if not isinstance(part, Trajectories):
                raise InputError(
                    f"{self.name}.fit takes gfm.Trajectories, not {type(part).__name__}; "
                    "wrap the weights: gfm.Trajectories(weights)."
                )
        if validation is not None and validation.weights.shape[1:] != train.weights.shape[1:]:
            raise InputError(
                f"validation {validation.weights.shape[1:]} must have as many states and parameters "
                f"as train {train.weights.shape[1:]}."
            )
        steps = train.weights.shape[1] - 1
        n = max(steps // 10, 1) if self.observed is None else self.observed
        if n >= steps:  # raised before anything changes: an earlier fit remains
            raise InputError(f"observed={n} leaves nothing to forecast in trajectories of {steps} steps.")
        some = None
        if max_weights is not None and whole("max_weights", max_weights, 1) < train.parameters:
            if not self.takes_some():
                raise InputError(f"{self.name!r} looks at all weights together and cannot be fitted to some of them: "
                                 "leave out max_weights.")
            some = np.sort(np.random.default_rng(0).choice(train.parameters, max_weights, replace=False))
        if self.learns():
            _ = train.stride  # refuses uneven steps
        self.n, self.horizon = n, steps - n
        self.parameters = train.parameters
        self.report = None
        report = FitReport(device=str(where))
        if some is not None:
            report.notes["fitted_weights"] = len(some)
            train = train.select_weights(some)
            validation = None if validation is None else validation.select_weights(some)
        started = time.perf_counter()
        with_gradients(self._fit)(train, validation, report)
        report.seconds = time.perf_counter() - started
        if validation is None and report.epochs:  # a network was trained until its error stopped to fall, on something
            report.notes.setdefault("held_out", NOT_HELD_OUT)
        self.spacing = tuple(np.unique(np.diff(train.steps)).tolist())
        self.tensors = None if self.coordinatewise else _tensors(train)
        self.report = report
        return self

    def forecast(self, prefix: Any, horizon: int | None = None) -> Any:
        """The ``horizon`` states after the prefix, of shape (runs, horizon, parameters).

        Args:
            prefix: the states 0..n of new runs: Trajectories, or a NumPy array or torch tensor of shape (runs, n+1,
                parameters). For a tensor the result is a tensor of the same dtype and device.
            horizon: number of states to forecast; by default as many as in the training trajectories.

        Raises:
            GfmError: The forecaster has not been fitted.
            InputError: The prefix, the distance of its states, or the horizon does not fit the fitted forecaster.
        """
        _ = self.fitted
        tensor = prefix if hasattr(prefix, "detach") else None
        data = prefix if isinstance(prefix, Trajectories) else _as_trajectories(prefix)
        horizon = self.horizon if horizon is None else whole("horizon", horizon, 1, MOST)
        if self.bounded and horizon > self.horizon:
            raise InputError(
                f"{self.name!r} was fitted for {self.horizon} steps ahead and cannot forecast "
                f"{horizon}; fit it on longer trajectories or ask for less."
            )
        if data.weights.shape[1] != self.n + 1:
            raise InputError(
                f"The prefix must hold the states 0..{self.n} ({self.n + 1} states), as in the fit; "
                f"got {data.weights.shape[1]}."
            )
        if data is prefix and self.learns() and self.spacing != (data.stride,):
            raise InputError(f"The prefix differs from the runs to which {self.name!r} was fitted: its states are "
                             f"{data.stride} steps apart, not {self.spacing[0]}; resample one of them.")
        if not self.coordinatewise and data.parameters != self.parameters:
            raise InputError(
                f"{self.name!r} was fitted on {self.parameters} parameters and looks at all of them "
                f"together; got {data.parameters}."
            )
        if not self.coordinatewise and None not in (self.tensors, _tensors(data)) and self.tensors != _tensors(data):
            raise InputError(
                f"{self.name!r} looks at all weights together, but the prefix has other tensors than the fitted runs, "
                "or in another order."
            )
        with enough_memory(f"A forecast of {horizon} states"):
            out = with_gradients(self._forecast)(data, horizon)
        if tensor is None:
            return out.astype(data.weights.dtype, copy=False)
        return torch.as_tensor(out, dtype=tensor.dtype, device=tensor.device)

    def takes_some(self) -> bool:
        """Whether it can be fitted to some of the weights and forecast all of them."""
        return type(self).coordinatewise

    @classmethod
    def learns(cls) -> bool:
        """Whether a fit learns anything from the training trajectories beyond their length."""
        return cls._fit is not Forecaster._fit

    def save(self, path: str | Path) -> Path:
        """Write the fitted forecaster atomically to ``path`` (.npz), without pickle; returns the path written.

        :func:`gfm.forecasters.load` reads it back, and its forecasts are then the same bit for bit (on the same
        machine). Every attribute is saved: plain values, arrays, tensors, modules, and options of this package.

        Raises:
            GfmError: The forecaster has not been fitted.
            InputError: An attribute is something else, a module is not made by :meth:`rebuild`, or ``path`` is a folder
                or cannot be written to.
        """
        from gfm.forecasting.saved import save

        return save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a fitted forecaster that :meth:`save` wrote; it must be of this class.

        Raises:
            UnreadableFileError: The file is missing, broken, of another format, or holds a forecaster that is unknown
                here or not fitted.
            InputError: It holds another forecaster, or ``path`` is no path.
        """
        from gfm.forecasting.saved import load

        model = load(path)
        if not isinstance(model, cls):
            raise InputError(f"{path} holds the forecaster {model.name!r}, which is no {cls.__name__}.")
        return model

    # -- for subclasses --------------------------------------------------------------------------
    def _fit(self, train: Trajectories, validation: Trajectories | None, report: FitReport) -> None:
        """Learn; rules without parameters do nothing here."""
        return

    def rebuild(self) -> None:
        """Create the modules that are attributes; their weights do not matter, since :meth:`load` overwrites them.

        All other attributes are already set. By default there are no modules.
        """
        return

    @abstractmethod
    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        """(runs, horizon, parameters) from a checked prefix."""


def _tensors(data: Trajectories) -> tuple[tuple[str, int], ...] | None:
    """The name and number of weights of each tensor, in their order."""
    return None if data.groups is None else tuple((name, len(list(same))) for name, same in groupby(data.groups))


def _as_trajectories(prefix: Any) -> Trajectories:
    try:
        return Trajectories(prefix)
    except InputError as error:
        raise InputError(f"The prefix is unusable: {said(error)}.") from None
