"""Information in the optimizer's state: gradients reconstructed from it, and the size of its second moments.

With an optimizer that keeps averages, a weight's step depends on more than the present gradient. The gradients
follow from the recorded averages by inverting the update rule::

    momentum   b_k = mu b_{k-1} + g_k                 g_k = b_k - mu b_{k-1}
    RMSprop    s_k = a s_{k-1} + (1-a) g_k^2          |g_k|, with the sign opposite to the increment
    Adam       m_k = b1 m_{k-1} + (1-b1) g_k          g_k = (m_k - b1 m_{k-1}) / (1 - b1)

For plain SGD they are proportional to the increments and add no information. Where averages themselves are features,
Adam's are corrected for their start from zero, by the optimizer's own count of steps.
"""

from __future__ import annotations

import math

import numpy as np

from gfm.checks import number
from gfm.errors import InputError
from gfm.forecasting.series import to_series
from gfm.matching.rules import rule_of
from gfm.trajectories import Trajectories

__all__ = [
    "STEP", "averages", "gradients", "knows_optimizer", "learning_rate", "second_moment_units", "second_moments",
    "state_features", "step_counts", "times_powers",
]

STEP = "optimizer.step"
"""Buffer with the optimizer's own count of steps, (runs, states), where runs do not begin at its first step."""
WITHOUT = "use Conditioning(optimizer_state=False)"


def learning_rate(data: Trajectories) -> float:
    """The learning rate with which the trajectories were recorded.

    Raises:
        InputError: ``meta["lr"]`` is missing, or is not a positive number.
    """
    if "lr" not in data.meta:
        raise InputError(f"The optimizer-aware field needs the learning rate in meta['lr']; or {WITHOUT}.")
    return number("meta['lr']", data.meta["lr"], lambda lr: 0 < lr < math.inf, "a positive number")


def knows_optimizer(data: Trajectories) -> bool:
    """Whether the trajectories tell all that the optimizer-aware field needs."""
    try:
        rule_of(data.meta)
        state_features(data)
    except InputError:
        return False
    return bool(data.states)


def gradients(data: Trajectories) -> np.ndarray:
    """(runs, states-1, parameters) the gradient of every step, for trajectories recorded at every step.

    Raises:
        InputError: The trajectories do not name a known optimizer, or lack its state.
    """
    rule, lr = data.meta.get("optimizer"), learning_rate(data)
    options, states = data.meta.get("options") or {}, data.states
    try:
        if rule == "SGD":
            return -np.diff(data.weights, axis=1) / lr
        if rule == "momentum":
            return states["momentum"][:, 1:] - options.get("momentum", 0.9) * states["momentum"][:, :-1]
        if rule == "RMSprop":
            keep = options.get("alpha", 0.99)
            square = (states["second"][:, 1:] - keep * states["second"][:, :-1]) / (1 - keep)
            return -np.sign(np.diff(data.weights, axis=1)) * np.sqrt(np.maximum(square, 0.0))
        if rule in ("Adam", "AdamW"):
            keep = options.get("betas", (0.9, 0.999))[0]
            return (states["momentum"][:, 1:] - keep * states["momentum"][:, :-1]) / (1 - keep)
    except KeyError as missing:
        raise InputError(
            f"The optimizer-aware field needs the optimizer's {missing} in the trajectories; "
            f"record them with states=True, or {WITHOUT}."
        ) from None
    raise InputError(f"The optimizer-aware field knows SGD, momentum, RMSprop and Adam, not {rule!r}; {WITHOUT}.")


def state_features(prefix: Trajectories) -> np.ndarray:
    """(series, features): gradients times lr, and lr times the root second moment.

    Momentum and SGD keep no second moment; the mean square of the reconstructed gradients replaces it. The
    gradients of a heavy ball are a linear map of the increments, so they give a linear field no new information, but
    their size does.

    If states were recorded with gaps, the gradients in between are unknown. The averages at the last state and the
    step that they imply are then used instead.

    Raises:
        InputError: The trajectories lack the optimizer's state, or do not name a known optimizer.
    """
    if (np.diff(prefix.steps) > 1).any():
        return averages(prefix)
    lr, rebuilt = learning_rate(prefix), gradients(prefix)
    parts = [to_series(rebuilt) * lr]
    if "second" in prefix.states:
        parts.append(_root_second(prefix) * lr)
    else:
        parts.append(np.sqrt(np.square(rebuilt).mean(axis=1)).reshape(-1, 1) * lr)
    return np.hstack(parts).astype(np.float64)


def averages(prefix: Trajectories) -> np.ndarray:
    """(series, features): the averages at the last state times lr, and the step that they imply if both are kept.

    Raises:
        InputError: The trajectories lack the optimizer's state or the learning rate.
    """
    lr, parts = learning_rate(prefix), []
    if "momentum" in prefix.states:
        first = to_series(prefix.states["momentum"][:, -1:] / _started(prefix).get("momentum", 1.0))
        parts.append(first * lr)
        if "second" in prefix.states:
            parts.append(lr * first / (_root_second(prefix) + 1e-8))
    if "second" in prefix.states:
        parts.append(_root_second(prefix) * lr)
    if not parts:
        raise InputError(f"The optimizer-aware field needs a recorded state; {WITHOUT}.")
    return np.hstack(parts).astype(np.float64)


def _root_second(prefix: Trajectories) -> np.ndarray:
    return to_series(np.sqrt(prefix.states["second"][:, -1:] / _started(prefix).get("second", 1.0)))


def step_counts(data: Trajectories) -> np.ndarray:
    """(runs, states) how many steps the optimizer had made at each state."""
    return np.broadcast_to(data.buffers.get(STEP, data.steps), data.weights.shape[:2])


def _started(prefix: Trajectories) -> dict[str, np.ndarray]:
    """(runs, 1, 1) by which Adam's averages at the last state fall short, for having started from zero."""
    if prefix.meta.get("optimizer") not in ("Adam", "AdamW"):
        return {}
    betas = (prefix.meta.get("options") or {}).get("betas", (0.9, 0.999))
    count = np.maximum(step_counts(prefix)[:, -1], 1)[:, None, None]
    return {name: 1 - beta**count for name, beta in zip(("momentum", "second"), betas, strict=True)}


def second_moments(prefix: Trajectories, units: np.ndarray) -> np.ndarray:
    """(series,) log of the root second moment at the last state, standardised over each run's weights.

    It is clipped at 2.5 standard deviations; otherwise a few weights with almost no gradient would be outliers.

    Args:
        prefix: observed states with second moments.
        units: (2, runs) from :func:`second_moment_units`.
    """
    size = _log_second(prefix.states["second"][:, -1])
    return np.clip((size - units[0][:, None]) / units[1][:, None], -2.5, 2.5).reshape(-1)


def second_moment_units(prefix: Trajectories, chunk: int | None = None) -> np.ndarray:
    """(2, runs) mean and standard deviation of the log root second moment, computed ``chunk`` weights at a time.

    Raises:
        InputError: No second moments were recorded.
    """
    if "second" not in prefix.states:
        raise InputError("products=True needs the optimizer's second moments; record them with states=True.")
    last, p = prefix.states["second"][:, -1], prefix.parameters
    chunk = chunk or p
    parts = [_log_second(last[:, start : start + chunk]) for start in range(0, p, chunk)]
    mean = sum(part.sum(axis=1) for part in parts) / p
    square = sum(np.square(part - mean[:, None]).sum(axis=1) for part in parts) / p
    return np.stack([mean, np.maximum(np.sqrt(square), 1e-12)])


def times_powers(context: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(series, 3 features): the context, and its products with the first two Hermite polynomials of ``size``.

    A linear map of these is a map whose coefficients depend on the size of a weight's gradients: a steep
    direction has settled and oscillates, a flat one still drifts, so the same increments lead to different
    futures.
    """
    size = size[:, None]
    return np.hstack([context, context * size, context * (np.square(size) - 1)])


def _log_second(values: np.ndarray) -> np.ndarray:
    return np.log(np.sqrt(values.astype(np.float64)) + 1e-8)
