"""Where experiments compute: the device that was asked for, or the best one at hand."""

import os
from typing import TYPE_CHECKING

from gfm.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["VARIABLE", "device_for"]

VARIABLE = "GFM_DEVICE"
"""The environment variable that names the device: auto (the default), cpu, cuda, cuda:1, mps."""


def device_for(dtype: "torch.dtype | None" = None) -> "torch.device":
    """The device of ``GFM_DEVICE`` for computations in this dtype (None: float64).

    ``auto`` is CUDA if it is available, else Apple's GPU (mps) unless the dtype is float64, which it lacks, else the
    processor. Products of matrices keep their full precision (no TF32), as in the authors' code.

    Raises:
        InputError: The device is unknown, not available here, or lacks the dtype.
    """
    import torch  # the command line reads VARIABLE, and loads torch only where a device is named

    asked = os.environ.get(VARIABLE, "").strip() or "auto"
    single = dtype not in (None, torch.float64)
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "mps" if single and torch.mps.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"The device {asked!r} is unknown: say auto, cpu, cuda, one of several as in cuda:1, or mps.")
    if device.type == "mps" and not single:
        raise InputError("The device 'mps' computes in single precision only: choose the processor (--device cpu), "
                         "or dtype float32 where a notebook has that parameter.")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.mps.is_available())}[device.type]
    if (device.index or 0) >= count:
        raise InputError(f"The device {asked!r} is not available here: leave --device away, or choose the processor "
                         "(--device cpu).")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return device
