"""Networks that can be differentiated three times, at the paper's sizes and small ones."""

from gfm.nets.activations import ACTIVATIONS
from gfm.nets.mlp import mlp

__all__ = ["ACTIVATIONS", "mlp"]
