"""Forecasters of weights: one interface, one file per method, a table from name to class.

A forecaster is made with its options, learns from whole trajectories and continues observed ones::

    model = gfm.forecasters.available()["ols"]().fit(train, validation=val)
    model.forecast(prefix, horizon)        # (runs, horizon, parameters)
"""

from gfm.forecasters.dmd import DynamicModes
from gfm.forecasters.finite_differences import Linear, LinearEnds, Quadratic
from gfm.forecasters.geometric import Geometric
from gfm.forecasters.hold import Hold
from gfm.forecasters.introspection import Introspection
from gfm.forecasters.lfd import LFD2
from gfm.forecasters.lfn import LFN
from gfm.forecasters.linear_layers import LFS, DLinear, NLinear
from gfm.forecasters.mixer import Mixer
from gfm.forecasters.monotone import MonotoneMap
from gfm.forecasters.neural_ode import NeuralODE
from gfm.forecasters.nino import NiNoStyle, WNNPlus
from gfm.forecasters.ols import OLS, OLSEnds
from gfm.forecasters.sequence import LSTM, Transformer
from gfm.forecasters.wnn import WNN
from gfm.forecasting.base import Forecaster, register, registered
from gfm.forecasting.report import FitReport
from gfm.matching import GradientFlowMatching, MemorylessFlow, PrefixFlow, VectorOnly

__all__ = [
    "LFD2",
    "LFN",
    "LFS",
    "LSTM",
    "OLS",
    "WNN",
    "DLinear",
    "DynamicModes",
    "FitReport",
    "Forecaster",
    "Geometric",
    "Hold",
    "Introspection",
    "Linear",
    "LinearEnds",
    "Mixer",
    "MonotoneMap",
    "NLinear",
    "NeuralODE",
    "NiNoStyle",
    "OLSEnds",
    "Quadratic",
    "Transformer",
    "WNNPlus",
    "available",
    "register", "GradientFlowMatching", "MemorylessFlow", "PrefixFlow", "VectorOnly",
]


def available() -> dict[str, type[Forecaster]]:
    """Names of all forecasters and their classes, the learned flows of :mod:`gfm.matching` included."""
    return dict(sorted(registered.items()))
