"""Figures of lockstep runs: what the optimizer does, and what its flows say about it.

Runs are of gradient descent with the processes discrete, stable and central; ``window`` is the standard deviation, in
steps, of the Gaussian average.
"""

import numpy as np
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.checks import whole
from gfm.figures.panels import Curve, Panel, arrival, draw, steps_of
from gfm.measures.comparison import alike
from gfm.measures.edge import effective_top

__all__ = ["central_flow", "central_flow_data", "enlarged", "enlarged_data", "first_burst"]


def central_flow_data(run: Run, window: float, output: int = 0) -> dict[str, np.ndarray]:
    """The curves of :func:`central_flow`, by name, each (steps + 1,)."""
    discrete, lr = run["discrete"], run.settings["lr"]
    average, predicted = alike(discrete.loss, run["central"].predicted_loss, window)
    names = {"discrete": "gradient descent", "stable": "the stable flow", "central": "the central flow"}
    return {
        "step": steps_of(run),
        "loss of gradient descent": discrete.loss,
        "smoothed loss of gradient descent": average,
        "loss of the stable flow": run["stable"].loss,
        "time-averaged loss predicted": predicted,
        **{f"sharpness of {name}": effective_top(run, process) / lr for process, name in names.items()},
        **{f"output of {name}": run[process].outputs[:, output] for process, name in names.items()},
        "distance to the central flow": run.distance("discrete", "central"),
        "distance to the stable flow": run.distance("discrete", "stable"),
    }


def central_flow(run: Run, window: float, output: int = 0) -> Figure:
    """Loss, sharpness, one of the recorded outputs (a column) and distances of gradient descent and its two flows."""
    data = central_flow_data(run, window, output)
    step, edge = data["step"], 2.0 / run.settings["lr"]

    def flows(what: str) -> list[Curve]:
        return [
            Curve(step, data[f"{what} of gradient descent"], "gradient descent", look={"alpha": 0.6}),
            Curve(step, data[f"{what} of the stable flow"], "gradient flow", "stable"),
            Curve(step, data[f"{what} of the central flow"], "central flow", "central"),
        ]

    return draw([
        Panel("The loss: predicted on average", "training loss", [
            Curve(step, data["loss of gradient descent"], "gradient descent", look={"alpha": 0.6}),
            Curve(step, data["smoothed loss of gradient descent"], "the same, smoothed", "smoothed"),
            Curve(step, data["loss of the stable flow"], "gradient flow", "stable"),
            Curve(step, data["time-averaged loss predicted"], "central flow: predicted average", "predicted"),
        ], log=True),
        Panel("The sharpness rises, then stays at 2 / lr", "largest Hessian eigenvalue", flows("sharpness"),
              level=edge, level_label=f"2 / lr = {edge:.3g}", ylim=(0, 2.0 * edge)),
        Panel("One output on a test example", "network output", flows("output")),
        Panel("Distance: near the central flow", "distance of weights", [
            Curve(step, data["distance to the stable flow"], "to gradient flow", "stable"),
            Curve(step, data["distance to the central flow"], "to the central flow", "central"),
        ]),
    ], align=False)


def enlarged_data(run: Run, window: float, span: tuple[int, int]) -> dict[str, np.ndarray]:
    """The curves of :func:`enlarged` by name, each (m,), for steps span[0] to span[1]; squared swings in weights²."""
    take, lr, central = slice(span[0], span[1] + 1), run.settings["lr"], run["central"]
    data = {
        "step": steps_of(run)[take],
        "sharpness of gradient descent": effective_top(run, "discrete")[take] / lr,
        "sharpness of the central flow": effective_top(run, "central")[take] / lr,
        "distance to the central flow": run.distance("discrete", "central")[take],
        "distance to gradient flow": run.distance("discrete", "stable")[take],
    }
    if central.sigma.shape[1]:
        squared = central.displacement[:, 0] ** 2 * lr
        average, predicted = alike(squared, central.sigma[:, 0] * lr, window)
        data["variance predicted"] = predicted[take]
        data["squared swing"] = squared[take]
        data["smoothed squared swing"] = average[take]
    return data


def enlarged(run: Run, window: float, span: tuple[int, int]) -> Figure:
    """Close-up of the edge: sawtooth of the sharpness, squared swing and its predicted variance, distances."""
    data, edge = enlarged_data(run, window, span), 2.0 / run.settings["lr"]
    step, swings, high = data["step"], [], None
    if "squared swing" in data:
        swings = [
            Curve(step, data["squared swing"], "gradient descent", look={"alpha": 0.4, "linewidth": 0.8}),
            Curve(step, data["smoothed squared swing"], "the same, smoothed", "smoothed"),
            Curve(step, data["variance predicted"], "central flow: predicted", "predicted"),
        ]
        high = 4 * max(*(np.nanmax(np.nan_to_num(curve.y)) for curve in swings[1:]), 1e-12)
    return draw([
        Panel("A sawtooth around the flow's straight line", "sharpness", [
            Curve(step, data["sharpness of gradient descent"], "gradient descent", look={"linewidth": 0.8}),
            Curve(step, data["sharpness of the central flow"], "central flow", "central"),
        ], level=edge, level_label=f"2 / lr = {edge:.3g}"),
        Panel("Bursts, with the predicted average", "squared swing (weights²)", swings,
              ylim=(0, high) if high else (None, None), legend=bool(swings)),
        Panel("Gradient flow is left behind", "distance of weights", [
            Curve(step, data["distance to gradient flow"], "to gradient flow", "stable"),
            Curve(step, data["distance to the central flow"], "to the central flow", "central"),
        ]),
    ], columns=1, height=2.2)


def first_burst(run: Run, first: int, last: int) -> list[Panel]:
    """The arrival at the edge, steps ``first`` to ``last``: squared swing, predicted variance (weights²), distances.

    Raises:
        InputError: ``first`` or ``last`` is no step: a whole number, and not the larger one first.
    """
    first = whole("first", first, 0)
    seen = slice(first, whole("last", last, first) + 1)
    step, lr = steps_of(run)[seen], run["central"].effective_step[seen]  # with a schedule it changes
    return [
        Panel("Descent must grow its swing first", "squared swing (weights²)",
              arrival(run, seen, "gradient descent", lr), log=True),
        Panel("Until then: nearer to gradient flow", "distance of weights", [
            Curve(step, run.distance("discrete", "stable")[seen], "to gradient flow", "stable"),
            Curve(step, run.distance("discrete", "central")[seen], "to the central flow", "central"),
        ]),
    ]
