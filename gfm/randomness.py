"""Torch's global random generators, seeded within a context and restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gfm.checks import MOST_SEED, whole

__all__ = ["seeding"]


@contextmanager
def seeding(seed: int | None, device: torch.device | str = "cpu") -> Iterator[None]:
    """Context in which the generators of the CPU and of ``device`` start from ``seed``, or go on if it is None.

    Afterwards they are as before. Generators of other devices are not touched.

    Raises:
        InputError: The seed is not a whole number from 0 to ``MOST_SEED``.
    """
    if seed is not None:
        whole("seed", seed, 0, MOST_SEED)
    device = torch.device(device)
    other = device.type in ("cuda", "mps")
    with torch.random.fork_rng([device] if other else [], device_type=device.type if other else "cuda"):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.default_generators[device.index or 0].manual_seed(seed)
            elif device.type == "mps":
                torch.mps.manual_seed(seed)
        yield
