"""What the sequence networks share: token embedding and sine-cosine positions."""

from math import log

import torch
from torch import Tensor, nn

__all__ = ["Embedding", "sinusoids"]


class Embedding(nn.Module):
    """Tokens ``(n, T)`` int64 to rows ``(n, T, width)`` of a table with standard normal entries.

    It multiplies one-hot rows instead of looking up rows. For small vocabularies this is as fast, and derivatives of
    every order and batching work.
    """

    def __init__(self, vocabulary: int, width: int, std: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, width))
        nn.init.normal_(self.weight, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, T) to rows of the table, (n, T, width)."""
        places = torch.arange(self.weight.shape[0], device=tokens.device)
        return (tokens[..., None] == places).to(self.weight.dtype) @ self.weight


def sinusoids(steps: int, width: int) -> Tensor:
    """``(steps, width)`` position encodings, with sines in even columns and cosines in odd ones."""
    rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-log(10000.0) / width))
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(steps, width).float()
