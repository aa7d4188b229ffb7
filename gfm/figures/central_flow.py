"""Figures of lockstep runs: what the optimizer does, and what its flows say of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.experiments.flow_measures import effective_top, smooth
from gfm.figures import style

__all__ = ["central_flow", "central_flow_data"]


def _steps(run: Run) -> np.ndarray:
    return np.arange(run.steps + 1)


def central_flow_data(run: Run, window: float) -> dict[str, np.ndarray]:
    """The curves of :func:`central_flow`, by name, each (steps + 1,)."""
    discrete, central = run["discrete"], run["central"]
    data = {
        "step": _steps(run),
        "loss of gradient descent": discrete.loss,
        "smoothed loss of gradient descent": smooth(discrete.loss, window),
        "loss of the stable flow": run["stable"].loss,
        "time-averaged loss predicted": central.predicted_loss,
        "sharpness of gradient descent": effective_top(run, "discrete") / run.settings["lr"],
        "sharpness of the stable flow": effective_top(run, "stable") / run.settings["lr"],
        "sharpness of the central flow": effective_top(run, "central") / run.settings["lr"],
        "distance to the central flow": run.distance("discrete", "central"),
        "distance to the stable flow": run.distance("discrete", "stable"),
    }
    if central.sigma.shape[1]:
        data["variance predicted"] = central.sigma[:, 0] * run.settings["lr"]
        data["squared displacement"] = central.displacement[:, 0] ** 2 * run.settings["lr"]
        data["smoothed squared displacement"] = smooth(data["squared displacement"], window)
    return data


def central_flow(run: Run, window: float) -> Figure:
    """Loss, sharpness, oscillation and distances of gradient descent and its two flows.

    Args:
        run: gradient descent with processes discrete, stable and central.
        window: standard deviation, in steps, of the Gaussian average.
    """
    data = central_flow_data(run, window)
    step = data["step"]
    with style.use():
        figure, ((loss, sharpness), (variance, distance)) = plt.subplots(2, 2, figsize=(8.6, 5.6), sharex=True)
        loss.plot(step, data["loss of gradient descent"], label="gradient descent", **style.line("discrete", alpha=0.6))
        loss.plot(step, data["smoothed loss of gradient descent"], label="the same, smoothed", **style.line("smoothed"))
        loss.plot(step, data["loss of the stable flow"], label="gradient flow", **style.line("stable"))
        loss.plot(step, data["time-averaged loss predicted"], label="central flow: predicted average", **style.line("predicted"))
        loss.set(yscale="log", ylabel="training loss", title="The loss: predicted on average")
        _legend(loss)

        edge = 2.0 / run.settings["lr"]
        top = data["sharpness of gradient descent"]
        seen = np.isfinite(top)
        sharpness.plot(step[seen], top[seen], label="gradient descent", **style.line("discrete", alpha=0.6))
        sharpness.plot(step, data["sharpness of the stable flow"], label="gradient flow", **style.line("stable"))
        sharpness.plot(step, data["sharpness of the central flow"], label="central flow", **style.line("central"))
        sharpness.axhline(edge, label=f"2 / lr = {edge:.3g}", **style.line("threshold"))
        sharpness.set(ylabel="largest Hessian eigenvalue", title="The sharpness rises, then stays at 2 / lr")
        sharpness.set_ylim(0, 2.0 * edge)
        _legend(sharpness)

        if "variance predicted" in data:
            variance.plot(step, data["squared displacement"], label="gradient descent, squared", **style.line("discrete", alpha=0.35))
            variance.plot(step, data["smoothed squared displacement"], label="the same, smoothed", **style.line("smoothed"))
            variance.plot(step, data["variance predicted"], label="central flow: predicted", **style.line("predicted"))
            top = np.nanmax(np.nan_to_num(data["smoothed squared displacement"]))
            variance.set_ylim(0, 3 * max(top, np.nanmax(np.nan_to_num(data["variance predicted"])), 1e-12))
            _legend(variance)
        variance.set(xlabel="step", ylabel="squared oscillation (weights²)", title="The oscillation: its variance")

        distance.plot(step, data["distance to the stable flow"], label="to gradient flow", **style.line("stable"))
        distance.plot(step, data["distance to the central flow"], label="to the central flow", **style.line("central"))
        distance.set(xlabel="step", ylabel="distance of weights", title="Distance: near the central flow")
        _legend(distance)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", handlelength=2.4)
