"""Panels of Scalar RMSProp and RMSProp: at the edge, on the central flow, with and without its penalty.

Each function returns a list of ``Panel``; ``panels.draw`` draws the figure, and ``panels.data_of`` gives its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gfm.central import Run, Series
from gfm.figures import style
from gfm.figures.panels import ABLATED, Curve, Panel, averaged, effective_eigenvalues, steps_of
from gfm.measures.adaptive import at_loss, flow_sharpness
from gfm.measures.flow import effective_top, smooth, upright

__all__ = ["ablation", "central_flow", "continued", "equal_loss", "first_lead", "many", "product", "start", "two_rates"]

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
    """Loss, squared gradient with its average, sharpness, effective sharpness, step and one output of the optimizer."""
    cut = slice(0, until + 1)
    step, seen = steps_of(run)[cut], run["discrete"]
    return [
        Panel(
            "The loss falls, with spikes", "training loss", [Curve(step, seen.loss[cut], "Scalar RMSProp")], log=True,
            legend=False
        ),
        Panel("Each spike raises the average", "squared gradient", [
            Curve(step, seen.gradient_norm2[cut], "squared gradient norm", look=_PALE),
            Curve(step, seen.nu_mean[cut], "its running average nu", "smoothed"),
        ], log=True),
        Panel("The sharpness", "sharpness", [Curve(step, flow_sharpness(run, "discrete")[cut], "S")], legend=False),
        Panel("Effective: it comes to 2", "effective sharpness", [
            Curve(step, effective_top(run, "discrete")[cut], "lr S / sqrt(nu)")], level=2.0, level_label="edge"),
        Panel("The step shrinks at each spike", "lr / sqrt(nu)",
              [Curve(step, seen.effective_step[cut], "effective step")],
              log=True, legend=False),
        Panel(
            "One output on a test example", "network output", [Curve(step, seen.outputs[cut, 0], "Scalar RMSProp")],
            legend=False
        ),
    ]


def many(run: Run, most: int = 4) -> list[Panel]:
    """The largest eigenvalues of the optimizer, effective and (where P is one number) of the Hessian."""
    names = ("largest", "second", "third", "fourth", "fifth", "sixth")
    found = effective_eigenvalues(run, "discrete", most)

    def curves(step_size: np.ndarray | float) -> list[Curve]:
        return [Curve(steps_of(run), values / step_size, name, look={**look, "alpha": 0.7, "linewidth": 1.1})
                for values, name, look in zip(found, names, style.cycle(most), strict=False)]

    panels = [Panel("Effective eigenvalues", "effective eigenvalues", curves(1.0), level=2.0, level_label="edge")]
    if run.settings["optimizer"] in _ONE_STEP:
        own = curves(run["discrete"].effective_step)
        panels.append(Panel("The Hessian's own", "eigenvalues of the Hessian", own, legend=False))
    return panels


def continued(runs: Mapping[str, Run], before: int, until: int, flows: bool) -> list[Panel]:
    """Loss, effective sharpness, sharpness and nu of runs that leave a common path at step ``before``.

    If ``flows`` is false, the central flows are left out and two panels are added: the swing along the critical
    direction (distance from the central flow, in weights; not drawn where no direction is critical) and the
    squared gradient.
    """
    colours = ("blue", "vermilion", "green")
    panels = []
    more = () if flows else (
        (
            "The swing", "swing along u (weights)",
            lambda r, q: upright(r["central"].displacement[:, 0] * r["central"].effective_step**0.5),
        ),
        ("The squared gradient", "squared gradient norm", lambda r, q: r[q].gradient_norm2),
    )
    for title, label, quantity in (
        *more,
        ("The loss", "training loss", lambda r, q: r[q].loss),
        ("Effective sharpness", "effective sharpness", lambda r, q: effective_top(r, q)),
        ("Sharpness", "sharpness", flow_sharpness),
        ("Second moment", "nu", lambda r, q: r[q].nu_mean),
    ):
        curves = []
        for colour, (name, run) in zip(colours, runs.items(), strict=False):
            step = before + steps_of(run)[: until + 1]
            look = {"color": style.COLOURS[colour]}
            dash = {"linestyle": "-" if colour == "blue" else (0, (6, 2))}
            curves.append(Curve(
                step, quantity(run, "discrete")[: until + 1], name,
                look={**look, **dash, "alpha": 0.55 if flows else 0.9}
            ))
            if flows:
                curves.append(Curve(
                    step, quantity(run, "central")[: until + 1], f"{name}: central flow", "central", {**look, **dash}
                ))
        edge = label == "effective sharpness"
        panels.append(Panel(title, label, curves, level=2.0 if edge else None, level_label="edge" if edge else "",
                            log=label in ("training loss", "squared gradient norm"),
                            legend=label == ("sharpness" if flows else "training loss")))
    return panels


def central_flow(run: Run, window: float, name: str, most: int = 3) -> list[Panel]:
    """Loss, eigenvalues, second moments, and distances between the optimizer and its flows."""
    step, discrete, central = steps_of(run), run["discrete"], run["central"]
    losses = averaged(step, discrete.loss, central.predicted_loss, window, name, look=_PALE,
                      prediction="central flow: predicted average")
    panels = [Panel("The loss: predicted on average", "training loss", losses, log=True)]
    curves = [
        Curve(step, v, name if i == 0 else "", look={"alpha": 0.45, "linewidth": 0.9})
        for i, v in enumerate(effective_eigenvalues(run, "discrete", most))
    ]
    curves += [
        Curve(step, v, "central flow" if i == 0 else "", "central")
        for i, v in enumerate(effective_eigenvalues(run, "central", most))
    ]
    top = np.nanmax(np.nan_to_num(effective_top(run, "discrete")))
    if "stable" in run.series:
        losses.insert(2, Curve(step, run["stable"].loss, "stable flow", "stable"))
        curves.append(Curve(step, effective_top(run, "stable"), "stable flow", "stable"))
    panels.append(Panel(
        "Effective eigenvalues: held at 2", "effective eigenvalues", curves, level=2.0, level_label="edge",
        ylim=(0, min(top * 1.05, 5))
    ))
    panels.append(Panel(
        "The second moments: predicted", "mean of nu",
        averaged(step, discrete.nu_mean, central.nu_mean, window, name, look=_PALE, prediction="central flow"),
        log=bool(np.nanmax(central.nu_mean) > 10 * np.nanmin(central.nu_mean)),
    ))
    far = []
    if "stable" in run.series:
        far = [Curve(step, run.distance("discrete", "stable"), "to the stable flow", "stable")]
    panels.append(Panel("It stays near its central flow", "distance of weights",
                        [*far, Curve(step, run.distance("discrete", "central"), "to the central flow", "central")]))
    return panels


def product(run: Run, window: float) -> list[Panel]:
    """The largest eigenvalues, the effective step size and their products, for optimizer and central flow."""
    step = steps_of(run)
    size = [(q, run[q].effective_step) for q in ("discrete", "central")]
    both = [(q, v) for q in ("discrete", "central") for v in effective_eigenvalues(run, q, 3)]
    sharp = [(q, v / run[q].effective_step) for q, v in both]

    def curves(pairs: list[tuple[str, np.ndarray]]) -> list[Curve]:
        named, out = set(), []
        for q, y in pairs:
            label = "" if q in named else "Scalar RMSProp" if q == "discrete" else "central flow"
            look = {"alpha": 0.55} if q == "discrete" else {}
            out.append(Curve(
                step, y, label, q, {**look, "linewidth": style.ROLES[q]["linewidth"] * (0.65 if q in named else 1)}
            ))
            named.add(q)
        return out

    return [
        Panel(
            "The Hessian's eigenvalues", "eigenvalues", curves(sharp), ylim=(0, _settled(curves(sharp), 0.05)[1]),
            legend=False
        ),
        Panel("Step size", "lr / sqrt(nu)", curves(size), ylim=_settled(curves(size), 0.05), legend=False),
        Panel(
            "Their products: at most 2", "effective eigenvalues", curves(both), level=2.0, level_label="edge",
            ylim=(0, 3.8)
        ),
    ]


def equal_loss(runs: Mapping[str, Run], level: float) -> list[Panel]:
    """Central flows at several learning rates: loss over time, and sharpness over loss."""
    looks = style.cycle(len(runs))
    over_time, over_loss = [], []
    for look, (name, run) in zip(looks, runs.items(), strict=True):
        flow, last = run["central"], at_loss(run, level)
        over_time.append(
            Curve(steps_of(run)[: last + 1], flow.loss[: last + 1], name, "central", {**look, "linewidth": 1.6})
        )
        over_loss.append(Curve(
            flow.loss[: last + 1], flow_sharpness(run, "central")[: last + 1], name, "central",
            {**look, "linewidth": 1.6}
        ))
    return [
        Panel("The way down", "training loss", over_time, level=level, level_label=f"loss {level:.3g}", log=True),
        Panel(
            "Sharpness on the way", "sharpness", over_loss, log=True, logx=True,
            xlabel="training loss (falls to the left)"
        ),
    ]


def ablation(
    full: Run, ablated: Run, sharpness: Mapping[str, tuple[np.ndarray, np.ndarray]], window: float, name: str
) -> list[Panel]:
    """Loss, sharpness and effective step of the optimizer, its flow, and the flow without curvature penalty.

    Args:
        full: run with the central flow.
        ablated: run with the flow without its curvature penalty.
        sharpness: "discrete", "central" (both of ``full``) and "ablated" -> (steps, values).
        window: standard deviation, in steps, of the Gaussian average.
        name: the optimizer's name.
    """
    step = steps_of(full)
    drawn: list[tuple[str, Series, str, str, dict[str, Any]]] = [
        ("discrete", full["discrete"], name, "discrete", _PALE),
        ("central", full["central"], "its central flow", "central", {}),
        ("ablated", ablated["central"], "flow without curvature penalty", "stable", ABLATED),
    ]
    sharp = [Curve(*sharpness[key], label, role, look) for key, _, label, role, look in drawn]
    length = [Curve(step, series.effective_step, label, role, look) for _, series, label, role, look in drawn]
    return [
        Panel("The loss", "training loss", [
            Curve(step, smooth(full["discrete"].loss, window), f"{name}, smoothed", "smoothed"),
            Curve(step, full["central"].predicted_loss, "its central flow, predicted average", "predicted"),
            Curve(step, full["central"].loss, "its central flow", "central"),
            Curve(step, ablated["central"].loss, "flow without curvature penalty", "stable", ABLATED),
        ], log=True),
        Panel("Sharpness", "sharpness", sharp, ylim=_settled(sharp), legend=False),
        Panel("Effective step", "effective step", length, ylim=_settled(length), legend=False),
    ]


def first_lead(full: Run, ablated: Run, first: int, last: int) -> list[Panel]:
    """Loss and sharpness of both flows just after the edge, from step ``first`` to ``last``."""
    step, cut = steps_of(full)[first : last + 1], slice(first, last + 1)
    lead = 100 * (full["central"].loss - ablated["central"].loss)[cut] / full["central"].loss[cut]
    return [
        Panel("The ablated flow's lead", "lead in loss (per cent)",
              [Curve(step, lead, "flow without curvature penalty", "stable", ABLATED)], level=0.0, level_label="equal"),
        Panel("... and its sharpness", "sharpness", [
            Curve(step, flow_sharpness(full, "central")[cut], "central flow", "central"),
            Curve(step, flow_sharpness(ablated, "central")[cut], "flow without curvature penalty", "stable", ABLATED),
        ]),
    ]


def two_rates(runs: Mapping[str, Run], window: float) -> list[Panel]:
    """Loss, sharpness and effective step of runs from one start; thin: optimizer, thick: central flow."""
    panels = []
    for label, quantity in (
        ("training loss", lambda r, q: r[q].loss), ("sharpness", flow_sharpness),
        ("effective step", lambda r, q: r[q].effective_step)
    ):
        curves = []
        for colour, (name, run) in zip(("blue", "vermilion"), runs.items(), strict=True):
            look = {"color": style.COLOURS[colour], "linestyle": "-" if colour == "blue" else (0, (6, 2))}
            curves.append(
                Curve(steps_of(run), quantity(run, "discrete"), "", look={**look, "alpha": 0.4, "linewidth": 0.8})
            )
            curves.append(Curve(steps_of(run), quantity(run, "central"), name, "central", look))
        loss = label == "training loss"
        limits = (None, None) if loss else _settled(curves)
        panels.append(Panel(label.capitalize(), label, curves, log=loss, ylim=limits, legend=loss))
    return panels
