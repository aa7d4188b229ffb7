"""Figures of what the central flow predicts: several eigenvalues, loss, gradient, outputs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.checks import whole
from gfm.figures import style
from gfm.figures.panels import Curve, Panel, steps_of
from gfm.measures.comparison import SLACK, alike
from gfm.measures.edge import effective_top
from gfm.measures.flow import rank

__all__ = ["dropped", "many", "many_data", "zoom", "zoom_data"]


def dropped(run: Run, drop: int, around: int) -> list[Panel]:
    """Loss and sharpness around the step at which the learning rate drops.

    Args:
        run: with processes discrete and central.
        drop: that step.
        around: steps that are drawn before and after it.

    Raises:
        InputError: ``drop`` or ``around`` is not a whole number of at least 0.
    """
    drop, around = whole("drop", drop, 0), whole("around", around, 0)
    seen = slice(max(drop - around, 0), drop + around + 1)
    step, optimizer, flow = steps_of(run)[seen], run["discrete"], run["central"]

    return [
        Panel("The loss falls to that of the flow", "training loss", [
            Curve(step, optimizer.loss[seen], "gradient descent"),
            Curve(step, flow.predicted_loss[seen], "central flow: predicted average", "predicted"),
            Curve(step, flow.loss[seen], "at the flow's own weights", "own"),
        ], moments=[drop], moment_label="learning rate halved"),
        Panel("The swing dies out", "learning rate × sharpness", [
            Curve(step, effective_top(run, "discrete")[seen], "gradient descent"),
            Curve(step, effective_top(run, "central")[seen], "central flow", "central"),
        ], level=2.0, level_label="edge", moments=[drop]),
    ]


def many_data(run: Run, window: float) -> dict[str, np.ndarray]:
    """The curves of :func:`many` by name, (steps + 1,) or (steps + 1, k)."""
    lr, central = run.settings["lr"], run["central"]
    seen, predicted = alike(central.displacement**2 * lr, central.sigma * lr, window)
    return {
        "step": np.arange(run.steps + 1),
        "eigenvalues of gradient descent": run["discrete"].eigenvalues / lr,
        "eigenvalues of the central flow": central.eigenvalues / lr,
        "rank of Sigma": rank(run),
        "variances predicted": predicted,
        "smoothed squared swings": seen,
        "distance to the central flow": run.distance("discrete", "central"),
        "distance to gradient flow": run.distance("discrete", "stable"),
    }


def many(run: Run, window: float) -> Figure:
    """Several eigenvalues at the edge, the rank of Sigma, its variances and the squared swings, distances.

    Args:
        run: gradient descent with its flows.
        window: standard deviation, in steps, of the Gaussian average of the squared swings.
    """
    data = many_data(run, window)
    step, edge = data["step"], 2.0 / run.settings["lr"]
    with style.use():
        figure, ((values, variance), (ranks, distance)) = style.subplots(2, 2, 2.7, height_ratios=(1.5, 1), sharex=True)
        flow = data["eigenvalues of the central flow"]
        looks = style.shades(max(min(flow.shape[1], 4), 1))
        for i, look in enumerate(looks):
            if i < data["eigenvalues of gradient descent"].shape[1]:
                values.plot(
                    step, data["eigenvalues of gradient descent"][:, i], color=look["color"], linewidth=0.8, alpha=0.55,
                    linestyle="-"
                )
            values.plot(step, flow[:, i], label=f"eigenvalue {i + 1}", **{**look, "linewidth": 2.0})
        values.axhline(edge, **style.line("threshold"))
        values.set(
            ylabel="Hessian eigenvalue", title=f"One after another they come to {edge:.3g}",
            ylim=(0, 1.5 * edge)
        )
        figure.legend(*values.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                      title="top left: thick, the flow's; thin, those of descent")

        predicted, seen = data["variances predicted"], data["smoothed squared swings"]
        high = np.nanmax(np.nan_to_num(predicted)) if predicted.size else 1.0
        swinging = np.nan_to_num(predicted).max(0) > SLACK * high if predicted.size else np.zeros(0, dtype=bool)
        for i, look in enumerate(style.shades(4)):
            if i < len(swinging) and swinging[i]:
                variance.plot(
                    step, seen[:, i], color=look["color"], linewidth=2.2, alpha=0.6, linestyle="-",
                    label=f"descent, direction {i + 1}"
                )
                variance.plot(
                    step, predicted[:, i], label=f"predicted {i + 1}", **style.line("predicted", color=look["color"])
                )
        variance.set(
            ylabel="squared swing (weights²)", title="Squared swings, predicted", ylim=(0, 2.2 * high)
        )
        variance.legend(loc="upper right", ncols=2)

        ranks.step(step, data["rank of Sigma"], where="post", **style.line("central"))
        ranks.set(xlabel="step", ylabel="rank of Σ", title="Directions that swing")
        ranks.set_yticks(range(int(data["rank of Sigma"].max()) + 2))
        distance.plot(step, data["distance to gradient flow"], label="to gradient flow", **style.line("stable"))
        distance.plot(step, data["distance to the central flow"], label="to the central flow", **style.line("central"))
        distance.set(xlabel="step", ylabel="distance of weights", title="Distance of gradient descent")
        distance.legend(loc="upper left")
    return figure


def zoom_data(run: Run, window: float, span: tuple[int, int], outputs: Sequence[int]) -> dict[str, np.ndarray]:
    """The curves of :func:`zoom` by name, each (m,), for the m steps span[0] to span[1]."""
    take = slice(span[0], span[1] + 1)
    discrete, central = run["discrete"], run["central"]
    data = {"step": np.arange(run.steps + 1)[take]}
    for name, what in (("loss", "loss"), ("squared gradient norm", "gradient_norm2")):
        average, predicted = alike(discrete[what], central[f"predicted_{what}"], window)
        data[f"{name} of gradient descent"] = discrete[what][take]
        data[f"{name}, smoothed"] = average[take]
        data[f"{name} at the flow's weights"] = central[what][take]
        data[f"{name}, predicted"] = predicted[take]
    averages, predictions = alike(discrete.outputs, central.predicted_outputs, window)
    for i in outputs:
        data[f"output {i} of gradient descent"] = discrete.outputs[take, i]
        data[f"output {i} of the flow"] = central.outputs[take, i]
        data[f"output {i}, smoothed"] = averages[take, i]
        data[f"output {i}, predicted"] = predictions[take, i]
    return data


def zoom(run: Run, window: float, span: tuple[int, int], outputs: Sequence[int]) -> Figure:
    """Loss, squared gradient norm and outputs of gradient descent with the flow's predictions, enlarged.

    Args:
        run: gradient descent and its central flow, with recorded outputs.
        window: standard deviation, in steps, of the Gaussian average.
        span: first and last step.
        outputs: columns of the recorded outputs, shown for the last 60 steps of the span.
    """
    data = zoom_data(run, window, span, outputs)
    step = data["step"]
    with style.use():
        figure, grid = plt.subplot_mosaic([["loss", "gradient"], ["output", "output"]], figsize=(style.WIDTH, 5.4))
        loss, gradient, output = (grid[name] for name in ("loss", "gradient", "output"))
        for ax, name in ((loss, "loss"), (gradient, "squared gradient norm")):
            for what, label, role, look in (
                (" of gradient descent", "gradient descent", "discrete", {"alpha": 0.45, "linewidth": 0.7}),
                (", smoothed", "the same, smoothed", "smoothed", {"linewidth": 2.8}),
                (", predicted", "central flow: predicted", "predicted", {"linewidth": 2.0}),
                (" at the flow's weights", "at the flow's own weights", "own", {}),
            ):
                ax.plot(step, data[name + what], label=label, **style.line(role, **look))
            ax.set(xlabel="step")
        loss.set(ylabel="training loss", title="The loss")
        gradient.set(ylabel="squared gradient norm", title="The squared gradient")
        style.log(gradient.yaxis)
        loss.legend(loc="upper right")
        late = step >= step[-1] - 60
        for i in outputs:
            dots = style.line("discrete", linewidth=0.7, alpha=0.6, marker=".", markersize=3)
            for what, drawn in (
                (" of gradient descent", dots), (", smoothed", style.line("smoothed", linewidth=2.8)),
                (", predicted", style.line("predicted", linewidth=2.0)),
                (" of the flow", style.line("own")),
            ):
                output.plot(step[late], data[f"output {i}{what}"][late], **drawn)
        output.set(xlabel="step", ylabel="network output", title="Three outputs, the last 60 steps (lines as above)")
    return figure
