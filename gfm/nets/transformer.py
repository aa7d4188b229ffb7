"""The decoder transformer over tokens."""

import torch
from torch import Tensor, nn

from gfm.errors import InputError
from gfm.nets.activations import activation_layer
from gfm.nets.attention import Attention, causal_mask
from gfm.nets.norms import LayerNorm
from gfm.nets.registry import network
from gfm.nets.seeding import seeded
from gfm.nets.tokens import Embedding, sinusoids

__all__ = ["Transformer", "transformer"]


class Transformer(nn.Module):
    """Decoder layers with a norm after each part, over embedded tokens with sine-cosine positions.

    It maps tokens ``(n, T)`` int64, T at most ``steps``, to ``(n, T, outputs)``. The defaults are the central-flows
    paper's: 68,228 weights. As there, each layer attends to itself causally and then to the embedded input without a
    mask, so that it can see later tokens; it is meant for studying training, not for sampling.

    Args:
        vocabulary: number of different tokens.
        outputs: number of outputs per position.
        activation: a name in ``gfm.nets.ACTIVATIONS``.
        steps: largest number of tokens.
        width: of the embedding.
        depth: number of layers.
        heads: number of attention heads.
        hidden: width of the hidden layer after each attention.
        head_scale: factor on the output head's initial weights.

    Raises:
        InputError: The width is odd, or the heads do not divide it.
        UnknownNameError: The activation is unknown.
    """

    positions: Tensor
    mask: Tensor

    def __init__(
        self, vocabulary: int = 4, outputs: int = 4, activation: str = "gelu", *, steps: int = 15, width: int = 32,
        depth: int = 4, heads: int = 4, hidden: int = 128, head_scale: float = 0.0,
    ):
        super().__init__()
        if width % 2:
            raise InputError(f"The width must be even, not {width}.")
        self.embed = Embedding(vocabulary, width)
        nn.init.xavier_uniform_(self.embed.weight)
        self.register_buffer("positions", sinusoids(steps, width))
        self.register_buffer("mask", causal_mask(steps, torch.float32))
        self.layers = nn.ModuleList(_DecoderLayer(width, heads, hidden, activation) for _ in range(depth))
        self.head = nn.Linear(width, outputs)
        nn.init.xavier_uniform_(self.head.weight)
        self.head.weight.data.mul_(head_scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T) to outputs (n, T, outputs).

        Raises:
            InputError: There are more tokens than positions.
        """
        length = tokens.shape[1]
        if length > len(self.positions):
            raise InputError(
                f"This transformer takes at most {len(self.positions)} tokens, not {length}: "
                "build it with a larger steps."
            )
        memory = self.embed(tokens) + self.positions[:length]
        mask = self.mask[:length, :length]
        x = memory
        for layer in self.layers:
            x = layer(x, memory, mask)
        return self.head(x)


class _DecoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, activation: str):
        super().__init__()
        self.own, self.norm1 = Attention(width, heads), LayerNorm(width)
        self.cross, self.norm2 = Attention(width, heads), LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.activation = activation_layer(activation)
        self.outer, self.norm3 = nn.Linear(hidden, width), LayerNorm(width)
        nn.init.xavier_uniform_(self.inner.weight)
        nn.init.xavier_uniform_(self.outer.weight)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.own(x, x, mask))
        x = self.norm2(x + self.cross(x, memory))
        return self.norm3(x + self.outer(self.activation(self.inner(x))))


transformer = network(
    "transformer", title="Transformer", takes="tokens",
    tiny={"width": 8, "depth": 1, "heads": 2, "hidden": 8},
    book={"width": 16, "depth": 1, "heads": 2, "hidden": 32},
)(seeded(Transformer))
