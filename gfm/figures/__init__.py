"""Drawing only: plain results in, matplotlib figures out."""

from gfm.figures import style

__all__ = ["style"]
