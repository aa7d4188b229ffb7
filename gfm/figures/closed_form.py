"""Panels of Scalar RMSProp's oscillation: its variance along a run, and its closed form's two limits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gfm.central import Run
from gfm.figures import style
from gfm.figures.panels import Curve, Panel, averaged, steps_of

__all__ = ["limits", "oscillation"]

_DOTS = {"linestyle": "", "marker": "o"}


def oscillation(run: Run, window: float, steps: np.ndarray, variances: np.ndarray) -> list[Panel]:
    """Squared displacement along the first eigenvector of Sigma, its predicted variance, and the closed form.

    The closed form's ``variances`` (m,) are given at ``steps`` (m,). All are in squared weights: Sigma = X u u^T / P
    for the unit vector u, and 1 / P is the effective step.
    """
    step, flow = steps_of(run), run["central"]
    squared = flow.displacement[:, 0] ** 2 * flow.effective_step
    predicted = flow.sigma[:, 0] * flow.effective_step
    curves = averaged(step, squared, predicted, window, "Scalar RMSProp, squared", look={"alpha": 0.35})
    highest = 3 * max(np.nanmax(np.nan_to_num(curves[1].y)), np.nanmax(np.nan_to_num(predicted[run.steps // 10 :])))
    return [Panel("The variance of the swing: predicted, and in closed form", "squared oscillation (weights²)", [
        *curves,
        Curve(steps, variances, "closed form", "central", {**_DOTS, "markersize": 6, "markerfacecolor": "none"}),
    ], ylim=(0, highest))]


def limits(
    checked: Mapping[str, Any], rates: np.ndarray, memories: np.ndarray, point: int, lr: float, beta2: float
) -> list[Panel]:
    """The closed form over learning rates (m,), and over 1 - memories (k,), at one point of ``closed_form_along``."""
    shown = memories < 1
    length = 1 - memories[shown]
    flat, here = np.ones_like(length), checked["variance"][[point]]
    dotted = {"linewidth": 1.6, "linestyle": (0, (2, 1.5)), "color": style.cycle(1)[0]["color"]}
    normalised = flat * checked["normalised"][point]
    return [
        Panel("It rises with the learning rate", "variance (weights²)", [
            Curve(rates, checked["by_rate"][point], "closed form", "central"),
            Curve(np.array([lr]), here, "this run", "discrete", _DOTS),
        ], xlabel="learning rate"),
        Panel("Between its two limits", "variance (weights²)", [
            Curve(length, checked["by_memory"][point][shown], "closed form", "central"),
            Curve(length, flat * checked["descent"][point], "gradient descent (beta2 = 1)", "stable"),
            Curve(length, normalised, "normalised gradient descent (beta2 = 0)", "smoothed", dotted),
            Curve(np.array([1 - beta2]), here, "this run", "discrete", _DOTS),
        ], xlabel="1 - beta2 (longer memory to the left)", logx=True, ylim=(0, None)),
    ]
