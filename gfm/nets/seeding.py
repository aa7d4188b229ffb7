"""Weights drawn from a seed of their own, whatever the caller's random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a fresh CPU stream inside the block; the caller's stream stays untouched.

    Networks are built inside it in float32 on the CPU and converted afterwards, so that one seed
    means the same weights in every dtype and on every device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        yield
