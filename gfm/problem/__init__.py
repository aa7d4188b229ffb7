"""The full-batch training loss of a module, as a function of a flat weight vector, and its derivatives."""

from gfm.problem.costs import Costs
from gfm.problem.problem import Problem

__all__ = ["Costs", "Problem"]
