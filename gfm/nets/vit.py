"""The simple vision transformer."""

import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.attention import attend
from gfm.nets.norms import LayerNorm
from gfm.nets.registry import network
from gfm.nets.seeding import seeded

__all__ = ["ViT", "vit"]


class ViT(nn.Module):
    """A vision transformer without class token, with fixed sine-cosine positions and mean pooling.

    The defaults are the central-flows paper's (after Beyer, Zhai, Kolesnikov, "Better plain ViT baselines", with
    layer norms written out): 661,412 weights.

    Args:
        input_shape: (channels, height, width).
        outputs: number of outputs; they are ``(n, outputs)``.
        activation: a name in ``gfm.nets.ACTIVATIONS``.
        patch: side of the square patches.
        width: of the embedding.
        depth: number of layers.
        heads: number of attention heads.
        head_width: of each attention head.
        hidden: width of the hidden layer after each attention.
        head_scale: factor on the output head's initial weights.

    Raises:
        InputError: The patch does not divide the sides, or the width is not a multiple of 4 or is below 8.
        UnknownNameError: The activation is unknown.
    """

    def __init__(
        self, input_shape: tuple[int, int, int] = (3, 32, 32), outputs: int = 4, activation: str = "gelu", *,
        patch: int = 4, width: int = 64, depth: int = 4, heads: int = 8, head_width: int = 64, hidden: int = 256,
        head_scale: float = 0.0,
    ):
        super().__init__()
        channels, height, across = input_shape
        if height % patch or across % patch:
            raise InputError(f"Images of {height}x{across} cannot be cut into patches of {patch}.")
        if width < 8 or width % 4:
            raise InputError(f"The width must be a multiple of 4 and at least 8, not {width}.")
        self.patch = patch
        pixels = channels * patch * patch
        self.register_buffer("positions", _positions(height // patch, across // patch, width))
        self.embed = nn.Sequential(LayerNorm(pixels), nn.Linear(pixels, width), LayerNorm(width))
        self.layers = nn.ModuleList()
        for _ in range(depth):
            self.layers.append(_SelfAttention(width, heads, head_width))
            self.layers.append(
                nn.Sequential(
                    LayerNorm(width), nn.Linear(width, hidden), activation_layer(activation), nn.Linear(hidden, width)
                )
            )
        self.norm = LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        self.head.weight.data.mul_(head_scale)
        self.head.bias.data.mul_(head_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, height, width) to outputs (n, outputs)."""
        n, channels, height, across = x.shape
        rows, columns = height // self.patch, across // self.patch
        x = x.reshape(n, channels, rows, self.patch, columns, self.patch)
        x = x.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)
        x = self.embed(x) + self.positions
        for layer in self.layers:
            x = x + layer(x)
        return self.head(self.norm(x.mean(1)))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        inner = heads * head_width
        self.heads = heads
        self.norm = LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.out(attend(q, k, v, self.heads))


def _positions(rows: int, columns: int, width: int) -> Tensor:
    """(rows * columns, width): sines and cosines of the patch's column and row."""
    quarter = width // 4
    rates = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / (quarter - 1))
    y, x = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    x, y = x.reshape(-1, 1) * rates, y.reshape(-1, 1) * rates
    return torch.cat((x.sin(), x.cos(), y.sin(), y.cos()), dim=1).float()


vit = network(
    "vit", title="ViT", takes="images",
    tiny={"width": 8, "depth": 1, "heads": 2, "head_width": 4, "hidden": 8},
    book={"width": 16, "depth": 2, "heads": 2, "head_width": 8, "hidden": 32},
)(seeded(ViT))
