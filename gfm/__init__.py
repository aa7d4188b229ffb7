"""Flows that describe training: derived ones (central flows) and learned ones (gradient flow matching).

Submodules are loaded on first use, so that ``import gfm`` and the command line start quickly.
"""

from importlib import import_module
from typing import Any

from gfm.errors import GfmError

__version__ = "0.1.0"

_MODULES = (
    "book", "central", "curvature", "data", "experiments", "figures", "flat", "forecasters", "losses", "matching",
    "measures", "nets", "nowcasting", "optimizers", "problem", "store", "symmetric", "trajectories",
)
LAZY = {"Nowcaster": "nowcasting", "Problem": "problem", "Trajectories": "trajectories"}

__all__ = ["GfmError", "__version__", *_MODULES, *LAZY]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(f"gfm.{LAZY[name]}"), name)
    if name in _MODULES:
        return import_module(f"gfm.{name}")
    raise AttributeError(f"module 'gfm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
