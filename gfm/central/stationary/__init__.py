"""RMSProp's stationary preconditioner: the convex program, its solvers, and the stationary flow."""

from gfm.central.stationary.program import Stationary, first_term, optimisation_speed, stationary

__all__ = ["Stationary", "first_term", "optimisation_speed", "stationary"]
