"""Multi-head attention in plain matrix products.

torch's fused attention does not support a complete second backward pass; here derivatives of every order work.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from gfm.errors import InputError

__all__ = ["Attention", "attend", "causal_mask"]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention with ``heads`` heads, ``(n, T, inner)``.

    Args:
        q: ``(n, T, inner)`` queries.
        k: ``(n, S, inner)`` keys.
        v: ``(n, S, inner)`` values.
        heads: number of heads.
        mask: ``(T, S)``, added to the logits.
    """
    n, steps, inner = q.shape
    q, k, v = (a.reshape(n, -1, heads, inner // heads).transpose(1, 2) for a in (q, k, v))
    logits = q @ k.transpose(-1, -2) / sqrt(inner // heads)
    if mask is not None:
        logits = logits + mask
    return (logits.softmax(-1) @ v).transpose(1, 2).reshape(n, steps, inner)


def causal_mask(steps: int, dtype: torch.dtype) -> Tensor:
    """``(steps, steps)``: 0 where a position may attend (to itself and earlier ones), -inf elsewhere."""
    return torch.full((steps, steps), -torch.inf, dtype=dtype).triu(1)


class Attention(nn.Module):
    """Attention with its projections: queries from ``x``, keys and values from ``memory``.

    The three projections share one matrix, as in torch's own layer, with Xavier initialisation.

    Raises:
        InputError: The heads do not divide the width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise InputError(f"A width of {width} cannot be divided into {heads} heads.")
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(3 * width, width))
        self.bias = nn.Parameter(torch.zeros(3 * width))
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """The result (n, steps, width) of attending from ``x`` (n, steps, width) to ``memory`` (n, others, width).

        ``mask`` (steps, others) is added to the scores before the softmax.
        """
        width = x.shape[-1]
        if memory is x:
            q, k, v = nn.functional.linear(x, self.weight, self.bias).chunk(3, -1)
        else:
            wq, wkv = self.weight.split((width, 2 * width))
            bq, bkv = self.bias.split((width, 2 * width))
            q = nn.functional.linear(x, wq, bq)
            k, v = nn.functional.linear(memory, wkv, bkv).chunk(2, -1)
        return self.out(attend(q, k, v, self.heads, mask))
