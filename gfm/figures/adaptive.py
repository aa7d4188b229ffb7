"""Panels of Scalar RMSProp and RMSProp: at the edge, on the central flow, with and without its penalty.

Each function returns a list of ``Panel``; ``panels.draw`` draws the figure, and ``panels.data_of`` gives its data.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.signal import find_peaks

from gfm.central import Run, Series
from gfm.checks import whole
from gfm.figures import style
from gfm.figures.panels import Curve, Panel, arrival, averaged, effective_eigenvalues, eigenvalues, steps_of
from gfm.measures.adaptive import at_equal_way, at_loss, flow_sharpness
from gfm.measures.comparison import alike
from gfm.measures.edge import effective_top
from gfm.measures.flow import upright

__all__ = [
    "ablation", "central_flow", "continued", "delayed", "equal_loss", "first_lead", "many", "product", "start",
    "two_rates", "who_holds",
]

_PALE = {"alpha": 0.55}
#: Optimizers whose preconditioner is one number: a Hessian eigenvalue is the effective one divided by the step size.
_ONE_STEP = ("GradientDescent", "ScalarRMSProp")


def _settled(curves: list[Curve], share: float = 0.08) -> tuple[float, float]:
    """Limits of y that fit the curves without the first share of the steps, in which they change fast."""
    late = [c.y[(c.x >= share * c.x[-1]) & np.isfinite(c.y)] for c in curves]
    values = np.concatenate([v for v in late if len(v)])
    room = 0.08 * (values.max() - values.min())
    return float(values.min() - room), float(values.max() + room)


def start(run: Run, until: int) -> list[Panel]:
    """Loss, squared gradient with its average, sharpness, effective sharpness, step and one output of the optimizer.

    Lines mark the spikes of the squared gradient.
    """
    cut = slice(0, until + 1)
    step, seen, name = steps_of(run)[cut], run["discrete"], "Scalar RMSProp"
    spikes = step[find_peaks(np.log10(seen.gradient_norm2[cut]), prominence=0.5)[0]]
    found = [
        Panel("The loss falls, with spikes", "training loss", [Curve(step, seen.loss[cut], name)], log=True,
              legend=False),
        Panel("Each spike raises the average", "squared gradient", [
            Curve(step, seen.gradient_norm2[cut], "squared gradient norm", look=_PALE),
            Curve(step, seen.nu_mean[cut], "its running average nu", "smoothed"),
        ], log=True),
        Panel("The sharpness", "sharpness", [Curve(step, flow_sharpness(run, "discrete")[cut], "S")], legend=False),
        Panel("Effective: it comes to 2", "effective sharpness", [
            Curve(step, effective_top(run, "discrete")[cut], "lr S / sqrt(nu)")], level=2.0, level_label="edge"),
        Panel("The step shrinks at each spike", "lr / sqrt(nu)", [
            Curve(step, seen.effective_step[cut], "effective step")], log=True, legend=False),
        Panel("One output on a test example", "network output", [Curve(step, seen.outputs[cut, 0], name)],
              legend=False),
    ]
    return [replace(panel, moments=spikes) for panel in found]


def many(run: Run, most: int = 4) -> list[Panel]:
    """The largest effective eigenvalues of optimizer and flow; the optimizer's of the Hessian where P is one number."""
    names = ("largest", "second", "third", "fourth", "fifth", "sixth")

    def curves(process: str, step_size: np.ndarray | float = 1.0) -> list[Curve]:
        found = zip(effective_eigenvalues(run, process, most), names, style.shades(most), strict=False)
        return [Curve(steps_of(run), values / step_size, name, look={**look, "linewidth": 1.1})
                for values, name, look in found]

    panels = [
        Panel("Effective eigenvalues", "effective eigenvalues", curves("discrete"), level=2.0, level_label="edge"),
        Panel("The central flow's", "effective eigenvalues", curves("central"), level=2.0, legend=False),
    ]
    if run.settings["optimizer"] in _ONE_STEP:
        own = curves("discrete", run["discrete"].effective_step)
        panels.append(Panel("The Hessian's own", "eigenvalues of the Hessian", own, legend=False))
    return panels


def continued(runs: Mapping[str, Run], before: int, until: int, flows: bool) -> list[Panel]:
    """Loss, effective sharpness, sharpness and nu of runs that leave a common path at step ``before``.

    If ``flows`` is false, the central flows are left out and two panels are added: the swing along the critical
    direction (distance from the central flow, in weights; not drawn where no direction is critical) and the
    squared gradient.
    """
    panels = []

    def swing(run: Run, process: str) -> np.ndarray:
        return upright(run["central"].displacement[:, 0] * run["central"].effective_step**0.5)

    more = () if flows else (
        ("The swing", "swing along u (weights)", swing),
        ("The squared gradient", "squared gradient norm", lambda r, q: r[q].gradient_norm2),
    )
    for title, label, quantity in (
        *more,
        ("The loss", "training loss", lambda r, q: r[q].loss),
        ("Effective sharpness", "effective sharpness", effective_top),
        ("Sharpness", "sharpness", flow_sharpness),
        ("Second moment", "nu", lambda r, q: r[q].nu_mean),
    ):
        curves = []
        for look, (name, run) in zip(style.scale(len(runs)), runs.items(), strict=True):
            step, cut = before + steps_of(run)[: until + 1], slice(until + 1)
            pale = {**look, "alpha": 0.55 if flows else 0.9}
            curves.append(Curve(step, quantity(run, "discrete")[cut], name, look=pale))
            if flows:
                curves.append(Curve(step, quantity(run, "central")[cut], f"{name}: central flow", "central", look))
        edge = label == "effective sharpness"
        panels.append(Panel(title, label, curves, level=2.0 if edge else None, level_label="edge" if edge else "",
                            log=label in ("training loss", "squared gradient norm"),
                            legend=label == ("sharpness" if flows else "training loss")))
    return panels


def central_flow(run: Run, window: float, name: str) -> list[Panel]:
    """Loss, eigenvalues, second moments, and distances between the optimizer and its flows."""
    step, discrete, central = steps_of(run), run["discrete"], run["central"]
    losses = averaged(step, discrete.loss, central.predicted_loss, window, name, look=_PALE,
                      prediction="central flow: predicted average")
    curves = eigenvalues(run, name, 3, {"alpha": 0.45, "linewidth": 0.9})
    far = [Curve(step, run.distance("discrete", "central"), "to the central flow", "central")]
    top = np.nanmax(np.nan_to_num(effective_top(run, "discrete")))
    if "stable" in run.series:
        losses.insert(2, Curve(step, run["stable"].loss, "stable flow", "stable"))
        curves.append(Curve(step, effective_top(run, "stable"), "stable flow", "stable"))
        far.insert(0, Curve(step, run.distance("discrete", "stable"), "to the stable flow", "stable"))
    moments = averaged(step, discrete.nu_mean, central.nu_mean, window, name, look=_PALE, prediction="central flow")
    return [
        Panel("The loss and its predicted average", "training loss", losses, log=True),
        Panel("Effective eigenvalues: held at 2", "effective eigenvalues", curves, level=2.0, level_label="edge",
              ylim=(0, min(top * 1.05, 5))),
        Panel("The second moments", "mean of nu", moments,
              log=bool(np.nanmax(central.nu_mean) > 10 * np.nanmin(central.nu_mean))),
        Panel("It stays near its central flow", "distance of weights", far),
    ]


def product(run: Run) -> list[Panel]:
    """The largest eigenvalues, the effective step size and their products, for optimizer and central flow."""
    sharp, size, both = [], [], []
    for process, name, look in (("discrete", "Scalar RMSProp", _PALE), ("central", "central flow", {})):
        step_size = run[process].effective_step
        size.append(Curve(steps_of(run), step_size, name, process, look))
        for i, values in enumerate(effective_eigenvalues(run, process, 3)):
            thinner = {**look, "linewidth": style.ROLES[process]["linewidth"] * (0.65 if i else 1)}
            both.append(Curve(steps_of(run), values, "" if i else name, process, thinner))
            sharp.append(replace(both[-1], y=values / step_size))
    top = _settled(sharp, 0.05)[1]
    return [
        Panel("The Hessian's eigenvalues", "eigenvalues", sharp, ylim=(0, top), legend=False),
        Panel("Step size", "lr / sqrt(nu)", size, ylim=_settled(size, 0.05), legend=False),
        Panel("Products: 2 at the edge", "effective eigenvalues", both, level=2.0, level_label="edge", ylim=(0, 3.8)),
    ]


def equal_loss(runs: Mapping[str, Run], level: float) -> list[Panel]:
    """Central flows at several learning rates: loss over time, and sharpness over loss."""
    over_time, over_loss = [], []
    for look, (name, run) in zip(style.scale(len(runs)), runs.items(), strict=True):
        cut, look = slice(at_loss(run, level) + 1), {**look, "linewidth": 1.6}
        loss = run["central"].loss[cut]
        over_time.append(Curve(steps_of(run)[cut], loss, name, "central", look))
        over_loss.append(Curve(loss, flow_sharpness(run, "central")[cut], name, "central", look))
    return [
        Panel("The way down", "training loss", over_time, level=level, level_label=f"loss {level:.3g}", log=True),
        Panel("Sharpness on the way", "sharpness", over_loss, log=True, logx=True,
              xlabel="training loss (falls to the right)", backwards=True),
    ]


def delayed(run: Run, window: float, last: int) -> list[Panel]:
    """Scalar RMSProp and flows that start with it: how the swing grows, and the loss at equal steps and distances.

    The left panel ends at step ``last``; losses are averaged over the window, a standard deviation in steps.

    Raises:
        InputError: ``last`` is not a whole number of at least 0.
    """
    step, loss = steps_of(run), run["discrete"].loss
    swing = arrival(run, slice(whole("last", last, 0) + 1), "Scalar RMSProp")
    average, predicted = alike(loss, run["central"].predicted_loss, window)
    equal = alike(loss, at_equal_way(run), window)[1]
    return [
        Panel("The swing has to grow first", "squared swing", swing, log=True),
        Panel("Behind in time, right in place", "training loss, smoothed", [
            Curve(step, average, "Scalar RMSProp", "smoothed"),
            Curve(step, predicted, "predicted, at the same step", "predicted"),
            Curve(step, equal, "predicted, at the same cumulated step", "own", {"linewidth": 2.0}),
        ], log=True),
    ]


def who_holds(shares: Mapping[float, Mapping[float, tuple[np.ndarray, np.ndarray]]]) -> list[Panel]:
    """The curvature penalty's share of holding the edge along flows of Scalar RMSProp, a panel for each beta2.

    Args:
        shares: beta2 -> learning rate -> (steps, shares from 0 to 1).
    """
    panels = []
    for beta2, found in shares.items():
        curves = [
            Curve(steps, 100 * np.asarray(values), f"lr = {lr:g}", "central", {**look, "linewidth": 1.6})
            for look, (lr, (steps, values)) in zip(style.scale(len(found)), found.items(), strict=True)
        ]
        panels.append(Panel(f"beta2 = {beta2:g}", "held by the penalty (%)", curves, ylim=(0, 100)))
    return panels


def ablation(
    full: Run, ablated: Run, sharpness: Mapping[str, tuple[np.ndarray, np.ndarray]], name: str
) -> list[Panel]:
    """Loss, sharpness and effective step of the optimizer, its flow, and the flow without curvature penalty.

    The optimizer's loss is that at midpoints of its path, as in the paper, which is free of the swing of period two.

    Args:
        full: run with the central flow and the optimizer's midpoints.
        ablated: run with the flow without its curvature penalty.
        sharpness: "discrete", "central" (both of ``full``) and "ablated" -> (steps, values).
        name: the optimizer's name.
    """
    step = steps_of(full)
    drawn: list[tuple[str, Series, str, str, dict[str, Any]]] = [
        ("discrete", full["discrete"], name, "discrete", _PALE),
        ("central", full["central"], "its central flow", "central", {}),
        ("ablated", ablated["central"], "flow without curvature penalty", "ablated", {}),
    ]
    sharp = [Curve(*sharpness[key], label, role, look) for key, _, label, role, look in drawn]
    length = [Curve(step, series.effective_step, label, role, look) for _, series, label, role, look in drawn]
    return [
        Panel("Loss, over that of the central flow", "ratio of losses", [
            Curve(step, full["midpoint"].loss / full["central"].loss, f"{name}, at midpoints", "smoothed"),
            Curve(step, np.ones_like(full["central"].loss), "its central flow", "central"),
            Curve(step, ablated["central"].loss / full["central"].loss, "flow without curvature penalty", "ablated"),
        ]),
        Panel("Sharpness", "sharpness", sharp, ylim=_settled(sharp), legend=False),
        Panel("Effective step", "effective step", length, ylim=_settled(length), legend=False),
    ]


def first_lead(full: Run, ablated: Run, first: int, last: int) -> list[Panel]:
    """Loss and sharpness of both flows just after the edge, from step ``first`` to ``last``."""
    step, cut = steps_of(full)[first : last + 1], slice(first, last + 1)
    lead = 100 * (full["central"].loss - ablated["central"].loss)[cut] / full["central"].loss[cut]
    return [
        Panel("The ablated flow's lead", "lead in loss (per cent)",
              [Curve(step, lead, "flow without curvature penalty", "ablated")], level=0.0, level_label="equal"),
        Panel("... and its sharpness", "sharpness", [
            Curve(step, flow_sharpness(full, "central")[cut], "central flow", "central"),
            Curve(step, flow_sharpness(ablated, "central")[cut], "flow without curvature penalty", "ablated"),
        ]),
    ]


def two_rates(runs: Mapping[str, Run]) -> list[Panel]:
    """Loss, sharpness and effective step of runs from one start; thin: optimizer, thick: central flow."""
    panels = []
    for label, quantity in (
        ("training loss", lambda r, q: r[q].loss), ("sharpness", flow_sharpness),
        ("effective step", lambda r, q: r[q].effective_step)
    ):
        curves = []
        for look, (name, run) in zip(style.scale(2), runs.items(), strict=True):
            thin = {**look, "alpha": 0.4, "linewidth": 0.8}
            curves.append(Curve(steps_of(run), quantity(run, "discrete"), "", look=thin))
            curves.append(Curve(steps_of(run), quantity(run, "central"), name, "central", look))
        loss = label == "training loss"
        limits = (None, None) if loss else _settled(curves)
        panels.append(Panel(label.capitalize(), label, curves, log=loss, ylim=limits, legend=loss))
    return panels
