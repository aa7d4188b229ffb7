"""Gradient flow matching: a vector field fitted to recorded weights, and the flow that it generates.

Only the abstract of the paper (arXiv 2505.20221), its time and interpolation, the field v(w, t) and one caption
could be read. Everything else here is a reconstruction; the notebooks say which is which.
"""

from gfm.matching.affine import AffineFlow
from gfm.matching.coordinate import CoordinateFlow
from gfm.matching.field import CorrectionField
from gfm.matching.flow import Flow
from gfm.matching.frame import Frame
from gfm.matching.integrate import Solver, integrate
from gfm.matching.loss import flow_matching_loss
from gfm.matching.memoryless import MemorylessFlow
from gfm.matching.model import GradientFlowMatching, PrefixFlow, VectorOnly
from gfm.matching.options import Conditioning, FlowOptions, Network
from gfm.matching.path import IncrementPath
from gfm.matching.vector import AffineVectorField, VectorFlow

__all__ = [
    "AffineFlow", "AffineVectorField", "Conditioning", "CoordinateFlow", "CorrectionField", "Flow", "FlowOptions",
    "Frame", "GradientFlowMatching", "IncrementPath", "MemorylessFlow", "Network", "PrefixFlow", "Solver", "VectorFlow",
    "VectorOnly", "flow_matching_loss", "integrate",
]
