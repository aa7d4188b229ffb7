"""One run of the atlas on one plate: the same measurements for every optimizer and network."""

import numpy as np

from gfm.central import Run
from gfm.figures.panels import Curve, Panel, averaged, eigenvalues, steps_of

__all__ = ["plate"]


def plate(run: Run, window: float) -> list[Panel]:
    """Panels of a run with processes discrete and central, of any optimizer.

    They show loss, effective eigenvalues, squared swing along the first eigenvector of Sigma (if a direction was
    critical for long enough), squared gradient norm, effective step (if it is not constant), and distance. ``window``
    is the standard deviation, in steps, of the Gaussian average.
    """
    step, seen, flow = steps_of(run), run["discrete"], run["central"]
    panels = [_averaged("Loss", "training loss", step, seen.loss, flow.predicted_loss, window, legend=True)]
    curves = eigenvalues(run, "optimizer", 3, {"alpha": 0.5, "linewidth": 0.9})
    top = np.nanmax([np.nanmax(c.y) for c in curves])
    panels.append(Panel("Eigenvalues of the effective Hessian", "effective eigenvalues", curves, level=2.0,
                        ylim=(0, min(1.05 * top, 6.0))))
    if flow.sigma.shape[1] and np.isfinite(flow.sigma[:, 0]).sum() > 2:
        swing = flow.displacement[:, 0] ** 2, flow.sigma[:, 0]
        panels.append(_averaged("The first swing", "variance (loss)", step, *swing, window, log=False))
    squares = seen.gradient_norm2, flow.predicted_gradient_norm2
    panels.append(_averaged("Squared gradient", "squared gradient norm", step, *squares, window))
    if np.ptp(seen.effective_step[np.isfinite(seen.effective_step)]) > 0:
        panels.append(Panel("Effective step", "effective step", [
            Curve(step, seen.effective_step, "optimizer", look={"alpha": 0.5}),
            Curve(step, flow.effective_step, "central flow", "central"),
        ], log=True, legend=False))
    distance = Curve(step, run.distance("discrete", "central"), "", "central")
    return [*panels, Panel("Distance", "distance of weights", [distance], legend=False)]


def _averaged(title: str, label: str, step: np.ndarray, seen: np.ndarray, predicted: np.ndarray, window: float,
              log: bool = True, legend: bool = False) -> Panel:
    """The optimizer's values, their average, and the flow's prediction of it."""
    curves = averaged(step, seen, predicted, window, "optimizer", look={"alpha": 0.4, "linewidth": 0.8})
    high = max(np.nanmax(np.nan_to_num(curve.y)) for curve in curves[1:])
    return Panel(title, label, curves, log=log, ylim=(None, None) if log else (0, 3 * high), legend=legend)
