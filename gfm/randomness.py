"""Torch's global random generators, seeded within a context and restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gfm.checks import MOST_SEED, whole

__all__ = ["restoring", "seeding"]


@contextmanager
def restoring(device: torch.device | str = "cpu") -> Iterator[None]:
    """Context after which the generators of the CPU and of ``device`` are as before.

    Generators of other devices are not touched.
    """
    device = torch.device(device)
    other = device.type in ("cuda", "mps")
    with torch.random.fork_rng([device] if other else [], device_type=device.type if other else "cuda"):
        yield


@contextmanager
def seeding(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """The same, with the generators started from ``seed``.

    Raises:
        InputError: The seed is not a whole number from 0 to ``MOST_SEED``.
    """
    whole("seed", seed, 0, MOST_SEED)
    device = torch.device(device)
    with restoring(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
