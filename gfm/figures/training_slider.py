"""The loss and the sharpness of training, and of both flows, with a slider over the steps."""

import numpy as np

from gfm.central import Run
from gfm.figures.slider import Curve, SliderPanel, slider
from gfm.figures.style import PROCESSES
from gfm.measures.edge import effective_top

__all__ = ["training_slider"]

_FRAMES = 320


def training_slider(run: Run, name: str, alt: str) -> str:
    """Gradient descent, gradient flow and central flow up to a step, as HTML.

    Args:
        run: with processes discrete, stable and central.
        name: made of letters, digits and hyphens; unique on the page.
        alt: the finding in words.

    There are at most 320 frames, an odd number of steps apart, because descent oscillates with period two.
    """
    every = -(-(run.steps + 1) // _FRAMES)
    take = slice(None, None, every + 1 - every % 2)
    steps = np.arange(run.steps + 1)[take]
    lr = run.settings["lr"]
    edge = run.settings["threshold"] / lr
    losses = {"discrete": run["discrete"].loss, "stable": run["stable"].loss, "central": run["central"].predicted_loss}
    losses = {process: values[take] for process, values in losses.items()}
    top = {process: effective_top(run, process)[take] / lr for process in PROCESSES}
    ends = (0.0, float(steps[-1]))
    panels = [
        SliderPanel("Training loss (central flow: its predicted average)", "step", "training loss",
              [Curve(steps, losses[p], label, p) for p, label in PROCESSES.items()], ends, _around(losses), log=True),
        SliderPanel("Sharpness (dotted: 2 / lr)", "step", "sharpness",
              [Curve(steps, top[p], label, p) for p, label in PROCESSES.items()], ends, (0.0, 1.9 * edge),
              lines={"2 / lr": np.array([[0, edge], [steps[-1], edge]])}),
    ]
    readings = {"loss": losses["discrete"], "predicted average": losses["central"], "sharpness": top["discrete"]}
    return slider(panels, steps, name=name, alt=alt, readings=readings)


def _around(curves: dict[str, np.ndarray]) -> tuple[float, float]:
    """Limits of a logarithmic axis that contains all curves."""
    values = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in curves.values()])
    return float(values.min() / 1.15), float(values.max() * 1.15)
