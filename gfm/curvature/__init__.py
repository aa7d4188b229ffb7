"""Curvature along a run: tracked eigenpairs of the effective Hessian, and the dense Hessian as a reference."""

from gfm.curvature.hessian import dense_hessian
from gfm.curvature.tracking import Spectrum, Tracker

__all__ = ["Spectrum", "Tracker", "dense_hessian"]
