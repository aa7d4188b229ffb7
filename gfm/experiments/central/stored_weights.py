"""Quantities computed at weights that a run has stored: sharpness, and the closed forms of Scalar RMSProp."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfm.central.closed_form import (
    effective_sharpness_rate,
    gradient_descent_variance,
    normalised_variance,
    penalty_share,
    scalar_rmsprop_variance,
)
from gfm.central.substep import local_flow
from gfm.errors import InputError
from gfm.experiments.central.flow_run import FlowRun
from gfm.linalg import eigen
from gfm.optimizers import ScalarRMSProp, State
from gfm.problem import Problem
from gfm.problem.derivatives import Derivatives
from gfm.store.experiment import Context

__all__ = ["closed_form_along", "penalty_shares", "sharpness_at"]


def sharpness_at(experiment: FlowRun, weights: np.ndarray) -> np.ndarray:
    """Top Hessian eigenvalue at stored weights (m, p), by Lanczos."""
    rows = list(weights)  # first: for placeholders (``gfm cells``) it raises, and no network is built
    problem = experiment.problem(Context())
    tops = []
    for row in rows:
        w = torch.tensor(row, dtype=problem.dtype, device=problem.device)
        tops.append(float(problem.top_eigenpairs(w, 1, tolerance=1e-4)[0][0]))
    return np.array(tops)


def closed_form_along(
    experiment: FlowRun, weights: np.ndarray, rates: np.ndarray, memories: np.ndarray
) -> dict[str, Any]:
    """The closed form of the oscillation's variance at stored weights, with checks of it (B2, B3).

    Args:
        experiment: a run of Scalar RMSProp.
        weights: (m, p) weights of its flow, at the edge.
        rates: learning rates to try at each point, around the run's own.
        memories: values of beta2 to try at each point, around the run's own.

    Returns:
        variance (m,): at the run's own lr and beta2. drift: largest ``|d log S_eff / dt|`` with it.
        solver: largest relative difference from the complementarity problem's solution. by_rate (m, rates),
        by_memory (m, memories), descent (m,), normalised (m,): variances. Points without one are NaN.

    Raises:
        InputError: The run is not of Scalar RMSProp with one learning rate and no epsilon, or there are no weights.
    """
    if not len(weights):
        raise InputError("No weights are given, so there is nothing to compute along them.")
    problem, rule = experiment.problem(Context()), _scalar(experiment)
    lr, beta2 = rule.lr_at(1.0), rule.beta2
    rows = []
    for row in weights:
        w = torch.tensor(row, dtype=problem.dtype, device=problem.device)
        point, u, S, slopes = _sharpest(problem, w)
        g = point.gradient
        variance = scalar_rmsprop_variance(g, slopes, S, lr, beta2)
        state = State(t=1.0, nu=torch.tensor((lr * S / 2.0) ** 2, dtype=w.dtype, device=w.device))
        P = float(rule.preconditioner(state))
        found = local_flow(point, rule, state, u[None] / P**0.5).rates(1e-3).oscillation
        solved = 0.0 if found is None else float(found.X[0, 0]) / P
        rows.append({
            "variance": variance,
            "drift": abs(effective_sharpness_rate(g, slopes, S, lr, beta2, variance)) if variance > 0 else np.nan,
            "solver": abs(solved - variance) / variance if variance > 0 else np.nan,
            "by_rate": [scalar_rmsprop_variance(g, slopes, S, r, beta2) for r in rates],
            "by_memory": [scalar_rmsprop_variance(g, slopes, S, lr, b) for b in memories],
            "descent": max(0.0, gradient_descent_variance(g, slopes)),
            "normalised": max(0.0, normalised_variance(g, S, lr)),
        })
    joined: dict[str, Any] = {key: np.array([r[key] for r in rows]) for key in rows[0]}
    for name in ("drift", "solver"):
        known = joined[name][np.isfinite(joined[name])]
        joined[name] = float(known.max()) if len(known) else float("nan")
    return joined


def penalty_shares(experiment: FlowRun, weights: np.ndarray) -> np.ndarray:
    """(m,) the penalty's share, 0 to 1, in holding the edge at stored weights (m, p) of Scalar RMSProp's flow.

    The rest is the share of nu; see ``gfm.central.closed_form.penalty_share``.

    Raises:
        InputError: The run is not of Scalar RMSProp with one learning rate and no epsilon.
    """
    problem, rule = experiment.problem(Context()), _scalar(experiment)
    shares = []
    for row in weights:
        _, _, S, slopes = _sharpest(problem, torch.tensor(row, dtype=problem.dtype, device=problem.device))
        shares.append(penalty_share(slopes, S, rule.lr_at(1.0), rule.beta2))
    return np.array(shares)


def _scalar(experiment: FlowRun) -> ScalarRMSProp:
    rule = experiment.rule()
    if not isinstance(rule, ScalarRMSProp):
        raise InputError(f"The closed form is Scalar RMSProp's; the run's optimizer is {type(rule).__name__}.")
    if callable(rule.lr) or rule.eps:
        raise InputError("The closed form is for one learning rate and no epsilon; leave schedule and eps as they are.")
    return rule


def _sharpest(problem: Problem, w: Tensor) -> tuple[Derivatives, Tensor, float, Tensor]:
    """The point at w, its top unit eigenvector (p,), its sharpness, and the sharpness' gradient (p,)."""
    point = problem.at(w)
    pair = eigen.lanczos(point.hvp, problem.p, 1, like=w, tolerance=1e-10)
    return point, pair.vectors[0], float(pair.values[0]), problem.third(w, pair.vectors[0], pair.vectors[0])
