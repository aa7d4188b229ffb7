"""Update rules as preconditioned descent on a flat weight vector, for discrete runs and for flows."""

from gfm.optimizers import schedules
from gfm.optimizers.adam import Adam
from gfm.optimizers.base import Memory, Optimizer, State
from gfm.optimizers.blockwise import BlockState, BlockwiseOptimizer
from gfm.optimizers.consistency import check_rule
from gfm.optimizers.filters import Filter
from gfm.optimizers.gradient_descent import GradientDescent
from gfm.optimizers.heavy_ball import HeavyBall
from gfm.optimizers.muon import Muon
from gfm.optimizers.nesterov import Nesterov
from gfm.optimizers.parameter_groups import Group, ParameterGroups
from gfm.optimizers.second_moment import RMSProp, ScalarRMSProp
from gfm.optimizers.shampoo import Shampoo

__all__ = [
    "Adam", "GradientDescent", "HeavyBall", "Muon", "Nesterov", "RMSProp", "ScalarRMSProp", "Shampoo",
    "BlockState", "BlockwiseOptimizer", "Filter", "Group", "Memory", "Optimizer", "ParameterGroups", "State",
    "available", "check_rule", "schedules",
]


def available() -> dict[str, type[Optimizer]]:
    """Name -> class of every optimizer; the names are those used in runs and on the command line."""
    rules: tuple[type[Optimizer], ...]
    rules = (GradientDescent, HeavyBall, Nesterov, ScalarRMSProp, RMSProp, Adam, Muon, Shampoo)
    return {rule.name: rule for rule in rules}
