"""Figures of forecasts: error against the step forecast."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from gfm.figures import style

__all__ = ["error_panels"]


def error_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]], titles: Mapping[str, str], first: int, floor: float = 1e-17,
    limit: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None, most: float = 4.0,
) -> Figure:
    """Error against step, one panel per data set; the learned flow is drawn bold.

    Where the limit is known, errors are divided by it and drawn on a linear axis; otherwise the axis is logarithmic.

    Args:
        panels: title -> forecaster -> (samples, horizon) mean squared errors.
        titles: forecaster -> name in the legend.
        first: step of the first error.
        floor: smaller errors, which are rounding, are drawn at this value.
        limit: panel title -> steps, and (samples, steps) expected errors that no forecaster can beat, on the first of
            the same samples.
        most: largest error over the limit that is drawn.
    """
    looks = style.forecasters(next(iter(panels.values())), markevery=(9, 30), markersize=4.5, zorder=5)
    with style.use():
        columns = 2 if len(panels) > 1 else 1
        rows = -(-len(panels) // columns)
        fig, axes = style.subplots(rows, columns, 2.9, squeeze=False, sharex=True)
        for ax, (title, errors) in zip(axes.flat, panels.items(), strict=False):
            known = limit.get(title) if limit else None
            for name, look in looks.items():
                mean = np.maximum(errors[name].mean(axis=0), floor)
                steps = np.arange(first, first + len(mean))
                if known:
                    alike = min(len(errors[name]), len(known[1]))  # on the same samples
                    steps = known[0]
                    mean = errors[name][:alike, steps - first].mean(axis=0) / known[1][:alike].mean(axis=0)
                    look = {**look, "markevery": 1}
                ax.plot(steps, mean, label=titles[name], alpha=1.0 if name == "gfm" else 0.9, **look)
            ax.set_title(title)
            if known:
                ax.axhline(1, **style.line("threshold"))
                ax.set(ylim=(0.8, most), ylabel="error / Bayes limit")
            else:
                style.log(ax.yaxis)
                ax.set_ylim(top=max(np.median(errors["hold"]), 0.1) * 20 if "hold" in errors else None)
                ax.set_ylabel("mean squared error")
        for ax in axes[-1]:
            ax.set_xlabel("optimizer step forecast")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        order = [len(labels) - 1, *range(len(labels) - 1)]  # the flow first
        fig.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=3)
    return fig
