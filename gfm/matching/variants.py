"""Named settings of the model, for tables that compare its parts."""

from __future__ import annotations

from gfm.forecasting.base import register
from gfm.matching.model import GradientFlowMatching

__all__ = ["PrefixFlow", "VectorOnly"]


@register
class PrefixFlow(GradientFlowMatching):
    """The coordinate view alone: v(x, t | prefix), shared by all weights."""

    name = "gfm-prefix"
    title = "GFM, coordinate view"

    def __init__(self, observed: int | None = None, **options) -> None:
        super().__init__(observed, **{"view": "coordinate", **options})


@register
class VectorOnly(GradientFlowMatching):
    """The vector view alone: v(w) of all weights together, without memory."""

    name = "gfm-vector"
    title = "GFM, vector view"
    coordinatewise = False

    def __init__(self, observed: int | None = None, **options) -> None:
        super().__init__(observed, **{"view": "vector", **options})
