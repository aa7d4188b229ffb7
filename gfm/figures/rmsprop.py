"""Panels of RMSProp: single weights, the stationary preconditioner, the stationary flow."""

from collections.abc import Mapping

import numpy as np

from gfm.central import Run
from gfm.figures import style
from gfm.figures.panels import Curve, Panel, averaged, effective_eigenvalues, steps_of
from gfm.measures.edge import effective_top

__all__ = ["paths", "rest", "single_weights", "speeds", "start", "variances", "weights_predicted"]

_PALE = {"alpha": 0.5}


def start(run: Run) -> list[Panel]:
    """Loss and largest effective eigenvalues of RMSProp."""
    step = steps_of(run)
    shown = effective_eigenvalues(run, "discrete", 4)
    names = ["largest", "second", "third", "fourth"]
    return [
        Panel("The loss", "training loss", [Curve(step, run["discrete"].loss, "RMSProp")], log=True, legend=False),
        Panel("The preconditioned Hessian: at 2", "effective eigenvalues", [
            Curve(step, v, names[i], look={**style.shades(4)[i], "linewidth": 1.1})
            for i, v in enumerate(shown)
        ], level=2.0, level_label="edge", ylim=(0, min(5.0, np.nanmax(effective_top(run, "discrete")) * 1.05))),
    ]


def single_weights(run: Run, chosen: list[int]) -> list[Panel]:
    """Squared gradient and nu of single weights; ``chosen``: columns of the recorded weights."""
    step, seen = steps_of(run), run["discrete"]
    return [
        Panel(f"Weight {number}", "squared gradient", [
            Curve(step, seen.gradient2_at[:, c], "g²", look={"alpha": 0.4, "linewidth": 0.7}),
            Curve(step, seen.nu_at[:, c], "its average nu", "smoothed"),
        ], log=True, legend=number == 1) for number, c in enumerate(chosen, 1)
    ]


def variances(run: Run, window: float, name: str = "RMSProp") -> list[Panel]:
    """Smoothed squared displacement along each eigenvector of Sigma, and its predicted variance."""
    step, flow = steps_of(run), run["central"]
    names = ["first", "second", "third", "fourth"]
    panels: list[Panel] = []
    for i in range(min(flow.sigma.shape[1], 4)):
        if np.isfinite(flow.sigma[:, i]).sum() < 4 * window:
            continue
        curves = averaged(step, flow.displacement[:, i] ** 2, flow.sigma[:, i], window, f"{name}, squared",
                          look={"alpha": 0.3, "linewidth": 0.7})
        highest = max(np.nanmax(curve.y) for curve in curves[1:])
        panels.append(Panel(f"Along the {names[i]} eigenvector of Σ", "variance (loss)", curves,
                            ylim=(0, 2.2 * highest), legend=not panels))
    return panels


def weights_predicted(run: Run, window: float, chosen: list[int]) -> list[Panel]:
    """Squared gradients of single weights, measured and predicted, and the ratio of nu to the flow's nu."""
    step, seen, flow = steps_of(run), run["discrete"], run["central"]
    panels: list[Panel] = []
    for number, c in enumerate(chosen, 1):
        curves = averaged(step, seen.gradient2_at[:, c], flow.predicted_gradient2_at[:, c], window, "RMSProp",
                          look={"alpha": 0.3, "linewidth": 0.6}, prediction="predicted average")
        mean = curves[1].y
        top = np.nanmax(mean[len(step) // 4 :]) if np.isfinite(mean).any() else None
        panels.append(Panel(f"Weight {number}", "squared gradient", [
            *curves,
            Curve(step, flow.gradient2_at[:, c], "without oscillation", "own"),
        ], ylim=(0, 2.5 * top if top else None), legend=number == 1))
        panels.append(Panel(f"Weight {number}: nu over the flow's", "ratio", [
            Curve(step, seen.nu_at[:, c] / flow.nu_at[:, c], "RMSProp"),
        ], level=1.0, level_label="central flow", ylim=(0, None), legend=number == 1))
    return panels


def rest(points: Mapping[str, np.ndarray], short: Mapping[str, np.ndarray], names: tuple[str, str]) -> list[Panel]:
    """Cosine between nu and stationary nu over the checkpoints, and one against the other at the first and the last.

    Args:
        points: the arrays (m, ...) of ``StationaryPoints`` for the run shown.
        short: the same for a run with a shorter memory.
        names: of the two runs, for the legend.
    """
    step, dots = points["step"], {"marker": "o", "markersize": 4}
    every = np.concatenate([points["nu_still"][[0, -1]].ravel(), points["nu_seen"][[0, -1]].ravel()])
    ends = np.array([every[every > 0].min(), every.max()])
    weights = [
        Curve(points["nu_still"][place], points["nu_seen"][place], f"step {step[place]:g}", "discrete",
              {"linestyle": "", "marker": marker, "markersize": 5, "markerfacecolor": fill})
        for place, marker, fill in ((0, "o", style.COLOURS["white"]), (-1, "o", style.COLOURS["blue"]))
    ]
    return [
        Panel("nu comes to rest", "1 - cosine of nu and its resting value", [
            Curve(step, 1 - points["cosine"], names[0], "central", dots),
            Curve(step[1:], 1 - points["lagged"][1:], f"{names[0]}, averaged over its memory", "predicted", dots),
            Curve(short["step"], 1 - short["cosine"], names[1], "own", dots),
        ], log=True, level=0.01, level_label="cosine 0.99"),
        Panel("nu against its resting value", "nu", [
            *weights, Curve(ends, ends, "at rest", "threshold"),
        ], log=True, logx=True, xlabel="resting value of nu"),
    ]


def speeds(found: Mapping[str, Mapping[str, np.ndarray]]) -> list[Panel]:
    """Optimisation speeds of two other preconditioners, relative to stationary RMSProp, at several learning rates.

    ``found``: name of the learning rate -> the arrays (m, ...) of ``StationaryPoints``.
    """
    panels: list[Panel] = []
    for place, (name, points) in enumerate(found.items()):
        panels.append(Panel(name, "speed / RMSProp's", [
            Curve(points["step"], points[f"speed_{what}"] / points["speed_stationary"], label,
                  look={**look, "markersize": 5, "linewidth": 1.4})
            for (what, label), look in zip(
                (("first", "first term only"), ("descent", "gradient descent, largest step")),
                style.cycle(2, markers=True), strict=True)
        ], log=True, level=1.0, level_label="stationary RMSProp", legend=place == len(found) - 1))
    return panels


def paths(run: Run, found: Mapping[str, np.ndarray], first: int, p: int) -> list[Panel]:
    """Loss, sum of nu and one output: RMSProp, its central flow, the stationary flow and its ablation.

    ``found`` has the arrays (length + 1, ...) of ``StationaryPaths``. The output shown is the recorded one that is
    largest at the end of the central flow.
    """
    length = len(found["full_loss"])
    cut = slice(first, first + length)
    step = np.arange(first, first + length)
    still = {"color": style.cycle(1)[0]["color"], "linestyle": (0, (2, 1.5)), "linewidth": 2.0}
    column = int(np.argmax(run["central"].outputs[-1]))
    panels: list[Panel] = []
    for title, label, measured, key in (
        ("Loss", "training loss", lambda series: series.loss, "loss"),
        ("Second moments", "sum of nu", lambda series: p * series.nu_mean, "nu_sum"),
        ("One output", "output on a test example", lambda series: series.outputs[:, column], "outputs"),
    ):
        full, ablated = (found[f"{flow}_{key}"] for flow in ("full", "ablated"))
        if key == "outputs":
            full, ablated = full[:, column], ablated[:, column]
        panels.append(Panel(title, label, [
            Curve(step, measured(run["discrete"])[cut], "RMSProp", look=_PALE),
            Curve(step, measured(run["central"])[cut], "central flow", "central"),
            Curve(step, full, "stationary flow", "central", still),
            Curve(step, ablated, "stationary flow without penalty", "ablated"),
        ], legend=not panels))
    return panels
