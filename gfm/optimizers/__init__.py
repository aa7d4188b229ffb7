"""Update rules as preconditioned descent on a flat weight vector, for discrete runs and for flows."""

from gfm.optimizers import schedules
from gfm.optimizers.adam import Adam
from gfm.optimizers.base import Memory, Optimizer, State, available, register
from gfm.optimizers.gradient_descent import GradientDescent
from gfm.optimizers.heavy_ball import HeavyBall
from gfm.optimizers.rmsprop import RMSProp
from gfm.optimizers.scalar_rmsprop import ScalarRMSProp

__all__ = [
    "Adam", "GradientDescent", "HeavyBall", "Memory", "Optimizer", "RMSProp", "ScalarRMSProp", "State",
    "available", "register", "schedules",
]
