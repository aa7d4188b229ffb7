"""Figures of lockstep runs: what the optimizer does, and what its flows say of it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.figures import style
from gfm.measures.flow import effective_top, smooth

__all__ = ["central_flow", "central_flow_data", "enlarged", "enlarged_data"]


def _steps(run: Run) -> np.ndarray:
    return np.arange(run.steps + 1)


def central_flow_data(run: Run, window: float, output: int = 0) -> dict[str, np.ndarray]:
    """The curves of :func:`central_flow`, by name, each (steps + 1,)."""
    discrete, central = run["discrete"], run["central"]
    return {
        "step": _steps(run),
        "loss of gradient descent": discrete.loss,
        "smoothed loss of gradient descent": smooth(discrete.loss, window),
        "loss of the stable flow": run["stable"].loss,
        "time-averaged loss predicted": central.predicted_loss,
        "sharpness of gradient descent": effective_top(run, "discrete") / run.settings["lr"],
        "sharpness of the stable flow": effective_top(run, "stable") / run.settings["lr"],
        "sharpness of the central flow": effective_top(run, "central") / run.settings["lr"],
        "output of gradient descent": discrete.outputs[:, output],
        "output of the stable flow": run["stable"].outputs[:, output],
        "output of the central flow": central.outputs[:, output],
        "distance to the central flow": run.distance("discrete", "central"),
        "distance to the stable flow": run.distance("discrete", "stable"),
    }


def central_flow(run: Run, window: float, output: int = 0) -> Figure:
    """Loss, sharpness, one network output and distances of gradient descent and its two flows.

    Args:
        run: gradient descent with processes discrete, stable and central, and outputs recorded.
        window: standard deviation, in steps, of the Gaussian average.
        output: column of the recorded outputs.
    """
    data = central_flow_data(run, window, output)
    step = data["step"]
    with style.use():
        figure, ((loss, sharpness), (out, distance)) = plt.subplots(2, 2, figsize=(8.6, 5.6), sharex=True)
        loss.plot(step, data["loss of gradient descent"], label="gradient descent", **style.line("discrete", alpha=0.6))
        loss.plot(step, data["smoothed loss of gradient descent"], label="the same, smoothed", **style.line("smoothed"))
        loss.plot(step, data["loss of the stable flow"], label="gradient flow", **style.line("stable"))
        loss.plot(
            step, data["time-averaged loss predicted"], label="central flow: predicted average",
            **style.line("predicted")
        )
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

        out.plot(
            step, data["output of gradient descent"], label="gradient descent", **style.line("discrete", alpha=0.6)
        )
        out.plot(step, data["output of the stable flow"], label="gradient flow", **style.line("stable"))
        out.plot(step, data["output of the central flow"], label="central flow", **style.line("central"))
        out.set(xlabel="step", ylabel="network output", title="One output on a test example")
        _legend(out)

        distance.plot(step, data["distance to the stable flow"], label="to gradient flow", **style.line("stable"))
        distance.plot(step, data["distance to the central flow"], label="to the central flow", **style.line("central"))
        distance.set(xlabel="step", ylabel="distance of weights", title="Distance: near the central flow")
        _legend(distance)
    return figure


def enlarged_data(run: Run, window: float, span: tuple[int, int]) -> dict[str, np.ndarray]:
    """The curves of :func:`enlarged`, for steps span[0] to span[1]; squared swings in weights²."""
    take, lr, central = slice(span[0], span[1] + 1), run.settings["lr"], run["central"]
    data = {
        "step": _steps(run)[take],
        "sharpness of gradient descent": effective_top(run, "discrete")[take] / lr,
        "sharpness of the central flow": effective_top(run, "central")[take] / lr,
        "distance to the central flow": run.distance("discrete", "central")[take],
        "distance to gradient flow": run.distance("discrete", "stable")[take],
    }
    if central.sigma.shape[1]:
        squared = central.displacement[:, 0] ** 2 * lr
        data["variance predicted"] = central.sigma[take, 0] * lr
        data["squared swing"] = squared[take]
        data["smoothed squared swing"] = np.where(np.isfinite(squared), smooth(squared, window), np.nan)[take]
    return data


def enlarged(run: Run, window: float, span: tuple[int, int]) -> Figure:
    """The edge from near: sawtooth of the sharpness, squared swing against its variance, distances.

    Args:
        run: gradient descent with processes discrete, stable and central.
        window: standard deviation, in steps, of the Gaussian average.
        span: first and last step.
    """
    data, edge = enlarged_data(run, window, span), 2.0 / run.settings["lr"]
    step = data["step"]
    with style.use():
        figure, (saw, swing, distance) = plt.subplots(3, 1, figsize=(8.6, 6.9), sharex=True)
        top = data["sharpness of gradient descent"]
        seen = np.isfinite(top)
        saw.plot(step[seen], top[seen], label="gradient descent", **style.line("discrete", linewidth=0.8))
        saw.plot(step, data["sharpness of the central flow"], label="central flow", **style.line("central"))
        saw.axhline(edge, label=f"2 / lr = {edge:.3g}", **style.line("threshold"))
        saw.set(ylabel="sharpness", title="A sawtooth around the flow's straight line")
        _legend(saw)
        if "squared swing" in data:
            swing.plot(
                step, data["squared swing"], label="gradient descent",
                **style.line("discrete", alpha=0.4, linewidth=0.8)
            )
            swing.plot(step, data["smoothed squared swing"], label="the same, smoothed", **style.line("smoothed"))
            swing.plot(step, data["variance predicted"], label="central flow: predicted", **style.line("predicted"))
            high = max(
                np.nanmax(np.nan_to_num(data[name])) for name in ("smoothed squared swing", "variance predicted")
            )
            swing.set_ylim(0, 4 * max(high, 1e-12))
            _legend(swing)
        swing.set(ylabel="squared swing (weights²)", title="Bursts, with the predicted average")
        distance.plot(step, data["distance to gradient flow"], label="to gradient flow", **style.line("stable"))
        distance.plot(step, data["distance to the central flow"], label="to the central flow", **style.line("central"))
        distance.set(xlabel="step", ylabel="distance of weights", title="Gradient flow is left behind")
        _legend(distance)
        figure.align_ylabels()
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", handlelength=2.4)
