"""Information in the optimizer's state: gradients reconstructed from it, and the size of its second moments.

With an optimizer that keeps averages, a weight's step depends on more than the present gradient. The gradients
follow from the recorded averages, by inverting the update rule::

    momentum   b_k = mu b_{k-1} + g_k                 g_k = b_k - mu b_{k-1}
    RMSprop    s_k = a s_{k-1} + (1-a) g_k^2          |g_k|, with the sign opposite to the increment
    Adam       m_k = b1 m_{k-1} + (1-b1) g_k          g_k = (m_k - b1 m_{k-1}) / (1 - b1)

For plain SGD they are proportional to the increments and add no information. Where averages themselves are features,
the bias of Adam's averages (from their start at zero) is corrected, with the optimizer's own step count.
"""

import math

import numpy as np

from gfm.checks import number
from gfm.errors import InputError
from gfm.forecasting.series import to_series
from gfm.matching.rules import UpdateRule, rule_of
from gfm.trajectories import Trajectories
from gfm.trajectories.recent import STEP

__all__ = [
    "TINIEST", "averages_of", "gradients", "knows_optimizer", "last_averages", "learning_rate", "least_units",
    "recorded_kind", "refuse_other_kind", "second_moment_units", "second_moments", "state_channels", "state_features",
    "step_counts", "times_powers",
]

WITHOUT = "use optimizer_state=False (of a flow: Conditioning(optimizer_state=False))"
SMALLEST = 1e-3
"""Least unit of a weight's gradients, relative to the root mean square over the run's weights."""
TINIEST = 1e-150
"""Least unit of a gradient in a run without gradients; small, but its square does not underflow."""


def learning_rate(data: Trajectories) -> float:
    """The learning rate with which the trajectories were recorded.

    Raises:
        InputError: ``meta["lr"]`` is missing, or is not a positive number.
    """
    if "lr" not in data.meta:
        raise InputError(f"An optimizer-aware forecaster needs the learning rate in meta['lr']; or {WITHOUT}.")
    return number("meta['lr']", data.meta["lr"], lambda lr: 0 < lr < math.inf, "a positive number")


def knows_optimizer(data: Trajectories) -> bool:
    """Whether the trajectories contain all that the optimizer-aware field needs."""
    try:
        rule_of(data.meta)
        state_features(data)
    except InputError:
        return False
    return bool(data.states)


def averages_of(data: Trajectories, rule: UpdateRule) -> dict[str, np.ndarray]:
    """The rule's averages, (runs, states, parameters) each, as recorded.

    Raises:
        InputError: One is missing.
    """
    missing = [name for name in rule.averages if name not in data.states]
    if missing:
        raise InputError(
            f"An optimizer-aware forecaster needs the optimizer's {missing[0]!r} in the trajectories; "
            f"record them with states=True, or {WITHOUT}."
        )
    return {name: data.states[name] for name in rule.averages}


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
            f"An optimizer-aware forecaster needs the optimizer's {missing} in the trajectories; "
            f"record them with states=True, or {WITHOUT}."
        ) from None
    raise InputError(f"An optimizer-aware forecaster knows SGD, momentum, RMSprop and Adam, not {rule!r}; {WITHOUT}.")


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
        return last_averages(prefix)
    lr, rebuilt = learning_rate(prefix), gradients(prefix)
    parts = [to_series(rebuilt) * lr]
    if "second" in prefix.states:
        parts.append(_root_second(prefix) * lr)
    else:
        parts.append(np.sqrt(np.square(rebuilt).mean(axis=1)).reshape(-1, 1) * lr)
    return np.hstack(parts).astype(np.float64)


def last_averages(prefix: Trajectories) -> np.ndarray:
    """(series, features): the averages at the last state times lr, and the step that they imply if both are kept.

    Raises:
        InputError: The trajectories lack the optimizer's state or the learning rate.
    """
    lr, parts = learning_rate(prefix), []
    if "momentum" in prefix.states:
        first = _at_last(prefix, "momentum")
        parts.append(first * lr)
        if "second" in prefix.states:
            parts.append(lr * first / (_root_second(prefix) + 1e-8))
    if "second" in prefix.states:
        parts.append(_root_second(prefix) * lr)
    if not parts:
        raise InputError(f"An optimizer-aware forecaster needs a recorded state; {WITHOUT}.")
    return np.hstack(parts).astype(np.float64)


def _at_last(prefix: Trajectories, name: str) -> np.ndarray:
    """(series, 1) an average at the last state, corrected for its bias."""
    started = _started(prefix).get(name)
    return to_series(prefix.states[name][:, -1:] / (1.0 if started is None else started[:, -1:]))


def _root_second(prefix: Trajectories) -> np.ndarray:
    return np.sqrt(_at_last(prefix, "second"))


def state_channels(prefix: Trajectories, least: np.ndarray | None = None) -> np.ndarray:
    """(series, states, channels) features from the optimizer's state at each recorded step.

    The channels are the gradient of the step that led to a state (0 for the first; none if the states were recorded
    with gaps) and the optimizer's average of gradients, if it keeps one: each times lr, and each divided by the
    weight's own unit of gradients; then the logarithm of the root second moment. The unit is the root second moment
    at the last state; where the optimizer keeps none, the root mean square of the gradients over the prefix.

    Args:
        prefix: observed states.
        least: the result of :func:`least_units` for whole runs, if ``prefix`` is a part of them.

    Raises:
        InputError: The trajectories lack the optimizer's state, or do not name a known optimizer.
    """
    lr, (moving, root) = learning_rate(prefix), _moving_and_root(prefix)
    least = least_units(prefix) if least is None else least
    root = np.maximum(root, least[:, None, None])
    parts = [part * scale for part in moving for scale in (lr, 1 / root[:, -1:])]
    return np.stack([to_series(part) for part in (*parts, np.log(root))], axis=-1)


def least_units(prefix: Trajectories) -> np.ndarray:
    """(runs,) least unit of a weight's gradients; 100,000 weights are read at a time.

    Raises:
        InputError: The trajectories lack the optimizer's state, or do not name a known optimizer.
    """
    total, chunk = np.zeros(prefix.runs), 100_000
    for start in range(0, prefix.parameters, chunk):
        part = prefix.select_weights(np.arange(start, min(start + chunk, prefix.parameters)))
        total += np.square(_moving_and_root(part)[1][:, -1]).sum(axis=1)
    return np.maximum(SMALLEST * np.sqrt(total / prefix.parameters), TINIEST)


def _moving_and_root(prefix: Trajectories) -> tuple[list[np.ndarray], np.ndarray]:
    """Gradients and their average, if there are any, and the root second moment: (runs, states, p) each."""
    started = _started(prefix)
    averages = averages_of(prefix, rule_of(prefix.meta))
    averages = {name: value / started.get(name, 1.0) for name, value in averages.items()}
    moving = [averages["momentum"]] if "momentum" in averages else []
    if (np.diff(prefix.steps) == 1).all():
        rebuilt = gradients(prefix)
        moving.insert(0, np.concatenate([np.zeros_like(rebuilt[:, :1]), rebuilt], axis=1))
    if "second" in averages:
        return moving, np.sqrt(averages["second"].astype(np.float64))
    if not moving:
        raise InputError(f"An optimizer-aware forecaster needs a recorded state; {WITHOUT}.")
    mean = np.square(moving[0], dtype=np.float64).mean(axis=1, keepdims=True)
    return moving, np.broadcast_to(np.sqrt(mean), prefix.weights.shape)


def recorded_kind(data: Trajectories) -> tuple[str, str]:
    """The optimizer, and whether every step was recorded; an optimizer-aware forecaster is fitted to one such kind."""
    return str(data.meta.get("optimizer")), "at every step" if (np.diff(data.steps) == 1).all() else "with gaps"


def refuse_other_kind(fitted: tuple[str, str], prefix: Trajectories, what: str) -> None:
    """Check that a prefix is of the fitted runs' :func:`recorded_kind`.

    Args:
        fitted: the kind of the fitted runs.
        prefix: observed states.
        what: the forecaster, as the message's subject.

    Raises:
        InputError: The prefix is of another kind.
    """
    found = recorded_kind(prefix)
    if found != fitted:
        names = " and ".join(f"{name}, recorded {how}" for name, how in (fitted, found))
        raise InputError(f"{what} knows the optimizer of the fitted runs; that of the prefix differs: {names}.")


def step_counts(data: Trajectories) -> np.ndarray:
    """(runs, states) the number of steps that the optimizer had taken at each state."""
    return np.broadcast_to(data.buffers.get(STEP, data.steps), data.weights.shape[:2])


def _started(prefix: Trajectories) -> dict[str, np.ndarray]:
    """(runs, states, 1) by name: the bias factors 1 - beta^t of Adam's averages; empty for other optimizers."""
    if prefix.meta.get("optimizer") not in ("Adam", "AdamW"):
        return {}
    betas = (prefix.meta.get("options") or {}).get("betas", (0.9, 0.999))
    count = np.maximum(step_counts(prefix), 1)[..., None]
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
