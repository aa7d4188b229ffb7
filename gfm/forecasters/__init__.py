"""Forecasters of weights: one interface, one file per method, and a table of all classes by name.

A forecaster is made with its options, learns from complete trajectories and continues observed ones::

    model = gfm.forecasters.available()["ols"]().fit(train, validation=val)
    model.forecast(prefix, horizon)        # (runs, horizon, parameters)
    model.save("model.npz")                # and back: gfm.forecasters.load("model.npz")
"""

from pathlib import Path

from gfm.forecasters.dmd import DynamicModes
from gfm.forecasters.extrapolation import Geometric, Hold, Linear, LinearEnds, Quadratic
from gfm.forecasters.introspection import Introspection
from gfm.forecasters.linear import LFD2, LFN, LFS, DLinear, NLinear
from gfm.forecasters.mixer import Mixer
from gfm.forecasters.monotone import MonotoneMap
from gfm.forecasters.neural_ode import NeuralODE
from gfm.forecasters.nino import NiNoStyle, WNNPlus
from gfm.forecasters.ols import OLS, OLSEnds
from gfm.forecasters.residual import Residual
from gfm.forecasters.sequence import LSTM, Transformer
from gfm.forecasters.wnn import WNN
from gfm.forecasting.base import Forecaster, register, registered
from gfm.forecasting.report import FitReport
from gfm.matching import AffineFlow, GradientFlowMatching, LayerwiseFlow, MemorylessFlow

__all__ = [
    "LFD2", "LFN", "LFS", "LSTM", "OLS", "WNN", "AffineFlow", "DLinear", "DynamicModes", "FitReport", "Forecaster",
    "Geometric", "GradientFlowMatching", "Hold", "Introspection", "LayerwiseFlow", "Linear", "LinearEnds",
    "MemorylessFlow", "Mixer", "MonotoneMap", "NLinear", "NeuralODE", "NiNoStyle", "OLSEnds", "Quadratic", "Residual",
    "Transformer", "WNNPlus", "available", "load", "register",
]


def available() -> dict[str, type[Forecaster]]:
    """Name -> class of every forecaster, including the learned flows of :mod:`gfm.matching`."""
    return dict(sorted(registered.items()))


def load(path: str | Path) -> Forecaster:
    """A fitted forecaster of any kind that :meth:`Forecaster.save` wrote.

    Raises:
        UnreadableFileError: The file is missing, broken, of another format, or holds a forecaster that is unknown
            here or not fitted.
        InputError: ``path`` is no path.
    """
    return Forecaster.load(path)
