"""Gradient flow matching: a vector field fitted to recorded weights, and the flow that it generates.

Only the abstract of the paper (arXiv 2505.20221), its time and interpolation, the field v(w, t) and one caption
could be read. Everything else here is a reconstruction; the notebooks say which is which.
"""

from gfm.matching.affine import AffineField
from gfm.matching.coordinate import CoordinateFlow
from gfm.matching.field import NetworkField
from gfm.matching.flow import Flow
from gfm.matching.frame import Frame
from gfm.matching.integrate import Solver, integrate
from gfm.matching.layerwise import LayerwiseFlow, Tuning, windows
from gfm.matching.loss import flow_matching_loss
from gfm.matching.matched import MatchedFlow
from gfm.matching.memoryless import MemorylessFlow
from gfm.matching.model import AffineFlow, FlowForecaster, GradientFlowMatching
from gfm.matching.options import Conditioning, FlowOptions, Network
from gfm.matching.path import IncrementPath
from gfm.matching.rules import UpdateRule
from gfm.matching.vector import AffineVectorField, VectorFlow

__all__ = [
    "AffineField", "AffineFlow", "AffineVectorField", "Conditioning", "CoordinateFlow", "Flow", "FlowForecaster",
    "FlowOptions", "Frame", "GradientFlowMatching", "IncrementPath", "LayerwiseFlow", "MatchedFlow", "MemorylessFlow",
    "Network", "NetworkField", "Solver", "Tuning", "UpdateRule", "VectorFlow", "flow_matching_loss", "integrate",
    "windows",
]
