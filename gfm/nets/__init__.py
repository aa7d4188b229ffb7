"""Networks that can be differentiated three times, at the paper's sizes and small ones."""

from gfm.nets.activations import ACTIVATIONS
from gfm.nets.cnn import cnn
from gfm.nets.lstm import lstm
from gfm.nets.mamba import mamba
from gfm.nets.mlp import mlp
from gfm.nets.norms import GroupNorm, LayerNorm, RMSNorm, fused_norms
from gfm.nets.registry import SIZES, available, build
from gfm.nets.resnet import resnet
from gfm.nets.transformer import transformer
from gfm.nets.vit import vit

__all__ = [
    "ACTIVATIONS", "SIZES", "GroupNorm", "LayerNorm", "RMSNorm", "available", "build", "cnn", "fused_norms", "lstm",
    "mamba", "mlp", "resnet", "transformer", "vit",
]
