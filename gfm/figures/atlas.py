"""Small multiples over networks and learning rates."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from gfm.central import Run
from gfm.experiments.central.atlas import TITLES
from gfm.figures import style
from gfm.measures.comparison import alike, compare
from gfm.measures.edge import measured_top

__all__ = ["curves", "edges", "eigenvalues", "eigenvalues_data", "levels", "predictions"]

Runs = Mapping[tuple[str, float], Run]


def _of(runs: Runs, net: str) -> dict[float, Run]:
    return {lr: run for (name, lr), run in sorted(runs.items(), key=lambda item: item[0][1]) if name == net}


def edges(runs: Runs, nets: Sequence[str]) -> Figure:
    """Loss (left) and lr times sharpness over 2 (right) of each network (rows) at each of its learning rates."""
    with style.use():
        figure, axes = style.subplots(len(nets), 2, 1.9, squeeze=False)
        for row, net in enumerate(nets):
            loss, sharpness = axes[row]
            cells = _of(runs, net)
            for (lr, run), look in zip(cells.items(), style.scale(len(cells)), strict=True):
                look = {**look, "linewidth": 1.1}
                loss.plot(run["discrete"].loss, label=f"lr = {lr:g}", **look)
                steps, top = measured_top(run)
                sharpness.plot(steps, top / 2, **look)
            sharpness.axhline(1, **style.line("threshold"))
            sharpness.set_ylim(0, 2)
            loss.set_title(TITLES.get(net, net))
            loss.set_ylabel("training loss")
            sharpness.set_ylabel("sharpness / (2 / lr)")
            style.log(loss.yaxis)
            loss.legend(loc="best")
        for ax in axes[-1]:
            ax.set_xlabel("step")
    return figure


def levels(runs: Runs, level: Sequence[float]) -> Figure:
    """Mean sharpness over 2 / lr of every cell as a dot, with a row for each network.

    A hollow dot at 1 means that the mean is unknown.

    Args:
        runs: (network, learning rate) -> run.
        level: the mean of lr times sharpness of each run, NaN where there is none.
    """
    nets = list(dict.fromkeys(net for net, _ in runs))
    found = {cell: value / 2 for cell, value in zip(runs, level, strict=True)}
    with style.use():
        figure, axes = style.subplots(height=0.32 * len(nets) + 1.0)
        for row, net in enumerate(nets):
            cells = _of(runs, net)
            for (lr, _), look in zip(cells.items(), style.scale(len(cells), markers=True), strict=True):
                value, seen = found[net, lr], np.isfinite(found[net, lr])
                axes.plot(value if seen else 1.0, row, look["marker"], markersize=7 if seen else 4, color=look["color"],
                          markerfacecolor=look["color"] if seen else style.COLOURS["white"])
        axes.axvline(1, **style.line("threshold"))
        axes.set_yticks(range(len(nets)), [TITLES.get(net, net) for net in nets])
        axes.set_ylim(len(nets) - 0.5, -0.5)
        reach = max([0.1, *(abs(value - 1) for value in found.values() if np.isfinite(value))])
        axes.set_xlim(1 - 1.2 * reach, 1 + 1.2 * reach)
        axes.set(xlabel="mean sharpness / (2 / lr)", title="Every cell at its own edge (darker: smaller learning rate)")
    return figure


def predictions(runs: Runs, nets: Sequence[str], window: float) -> Figure:
    """Loss of each network (panels) at each learning rate, with the time average that its central flow predicts.

    Both are averaged alike, over the window of the run's comparison with its flow, which is at least ``window``.
    """
    columns = min(len(nets), 2)
    rows = -(-len(nets) // columns)
    with style.use():
        figure, axes = style.subplots(rows, columns, 2.7, squeeze=False)
        for ax in axes.flat[len(nets) :]:
            ax.set_visible(False)
        for ax, net in zip(axes.flat, nets, strict=False):
            cells = _of(runs, net)
            for (lr, run), look in zip(cells.items(), style.scale(len(cells)), strict=True):
                solid = {"color": look["color"], "linestyle": "-"}
                ax.plot(run["discrete"].loss, alpha=0.45, linewidth=0.8, **solid)
                own = compare(run, window).window
                average, predicted = alike(run["discrete"].loss, run["central"].predicted_loss, own)
                every = slice(None, None, max(1, int(own) // 4))  # a smooth average needs fewer points
                step = np.arange(len(average))[every]
                ax.plot(step, average[every], linewidth=2.4, alpha=0.6, label=f"lr = {lr:g}", **solid)
                ax.plot(step, predicted[every], **style.line("predicted", linewidth=1.3))
            ax.set(title=TITLES.get(net, net), xlabel="step")
            style.log(ax.yaxis)
            ax.legend(loc="best")
        for row in axes:
            row[0].set_ylabel("training loss")
        axes[0, 0].plot([], [], label="predicted", **style.line("predicted", linewidth=1.3))
        axes[0, 0].legend(loc="best")
    return figure


def eigenvalues_data(run: Run, most: int = 4) -> dict[str, np.ndarray]:
    """The curves of :func:`eigenvalues` by name, each (steps + 1,)."""
    lr, data = run.settings["lr"], {"step": np.arange(run.steps + 1)}
    for process, label in (("discrete", "gradient descent"), ("central", "the central flow")):
        for i, column in enumerate(run[process].eigenvalues.T[:most] / lr):
            if np.isfinite(column).sum() > 1:
                data[f"eigenvalue {i + 1} of {label}"] = column
    return data


def eigenvalues(run: Run, most: int = 4) -> Figure:
    """The largest Hessian eigenvalues of gradient descent (thin) and of its central flow (thick)."""
    data, edge = eigenvalues_data(run, most), 2.0 / run.settings["lr"]
    with style.use():
        figure, axes = style.subplots(height=3.2)
        for i, look in enumerate(style.shades(most)):
            for who, thick in (("gradient descent", False), ("the central flow", True)):
                column = data.get(f"eigenvalue {i + 1} of {who}")
                if column is None:
                    continue
                known = np.isfinite(column)
                thin = {"color": look["color"], "linewidth": 0.8, "alpha": 0.55, "linestyle": "-"}
                kw = {**look, "linewidth": 2.0} if thick else thin
                axes.plot(data["step"][known], column[known], label=f"eigenvalue {i + 1}" if thick else None, **kw)
        axes.axhline(edge, **style.line("threshold"))
        axes.set(xlabel="step", ylabel="Hessian eigenvalue", title=f"The largest eigenvalues and 2 / lr = {edge:.3g}")
        axes.set_ylim(0, 1.6 * edge)
        axes.legend(loc="lower right", ncols=2, title="thick: flow, thin: descent", title_fontsize=style.SMALL)
    return figure


def curves(runs: Runs, what: str = "loss") -> dict[str, np.ndarray]:
    """The curves drawn, each (steps + 1,), by network and learning rate, for the figure's data files."""
    out = {}
    for (net, lr), run in runs.items():
        out[f"{net} lr {lr:g}: loss"] = run["discrete"].loss
        if what == "sharpness":
            out[f"{net} lr {lr:g}: sharpness"] = run["discrete"].eigenvalues[:, 0] / lr
        if "central" in run.series:
            out[f"{net} lr {lr:g}: predicted loss"] = run["central"].predicted_loss
    return out
