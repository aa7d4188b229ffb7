"""Intervals over replicates, for means and for ratios of errors on the same data; and numbers as text."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gfm.errors import InputError

__all__ = ["SEEDS", "by_claim", "interval", "ratio", "ratio_text", "readable", "seeds_rows", "worse_end", "worst"]

#: The head of a table of ``seeds_rows``.
SEEDS = ("claim", "mean", "95 % interval", "least to largest", "seeds")


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of (replicates,) values and the ends of its two-sided 95 per cent Student interval.

    The ends are NaN for fewer than three replicates, which tell too little about the spread.

    Raises:
        InputError: The values are not one-dimensional and finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(f"An interval needs finite values (replicates,); got shape {values.shape}.")
    mean = float(values.mean())
    if len(values) < 3:
        return mean, float("nan"), float("nan")
    from scipy import stats  # slow to load, and needed here only

    reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return mean, mean - float(reach), mean + float(reach)


def worse_end(
    values: Iterable[float | str], low: bool = False, around: float | None = None
) -> float | str:
    """The end of the interval over seeds by which a claim is judged; with fewer than three values the worst of them.

    Args:
        values: one for each seed; NaN if it could not be measured, or a text that says why the run is not judged. Such
            seeds are left out.
        low: whether small values are bad.
        around: the ideal value, if both large and small values are bad.

    Returns:
        The upper (or lower) end, or the one further from ``around``; an infinite value (a stopped flow) if there is
        one. If most seeds are left out, the first reason in words, or NaN.
    """
    values = list(values)
    known = _measured(values)
    if len(known) * 2 <= len(values):
        return next((value for value in values if isinstance(value, str)), math.nan)
    ends = (float(known.min()), float(known.max()))
    if len(known) >= 3 and np.isfinite(known).all():
        ends = interval(known)[1:]
    return ends[0] if low else ends[1] if around is None else max(ends, key=lambda end: abs(end - around))


def worst(values: Iterable[float], low: bool = False) -> float:
    """The largest of one value for each seed, or the smallest if small values are bad; NaN if one is not known.

    Example:
        >>> worst([1.0, 3.0]), worst([1.0, 3.0], low=True), worst([1.0, math.nan])
        (3.0, 1.0, nan)
    """
    return float((np.min if low else np.max)(np.array(list(values), dtype=float)))


def by_claim(each: Sequence[Mapping[str, float | str]]) -> dict[str, list[float | str]]:
    """Claim -> its values over the seeds, given claim -> value for each seed."""
    return {name: [one[name] for one in each] for name in each[0]}


def seeds_rows(over: Mapping[str, Sequence[float | str]]) -> list[list[str]]:
    """A row for each claim, under the head ``SEEDS``: statistics of the values that are numbers, and their count.

    The interval is empty for fewer than three.
    """
    rows = []
    for name, values in over.items():
        known = _measured(values)
        mean = ends = spread = ""
        if not len(known):
            mean = "not judged"
        elif not np.isfinite(known).all():
            mean = "∞"
        else:
            middle, low, high = interval(known)
            mean, spread = readable(middle), f"{readable(known.min())} to {readable(known.max())}"
            ends = "" if math.isnan(low) else f"{readable(low)} to {readable(high)}"
        rows.append([name, mean, ends, spread, str(len(known))])
    return rows


def _measured(values: Iterable[float | str]) -> np.ndarray:
    return np.array([value for value in values if not isinstance(value, str) and not math.isnan(value)], dtype=float)


def ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean of ours / theirs over replicates, and the ends of its interval.

    The interval is Student's for the mean logarithm.

    Args:
        ours: (replicates,) positive errors.
        theirs: (replicates,) positive errors, paired with ``ours``: each replicate uses the same data.

    Raises:
        InputError: The errors are not one-dimensional, positive, finite and paired.

    Example:
        >>> mean, low, high = ratio([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
        >>> round(mean, 3), round(low, 3), round(high, 3)
        (0.5, 0.5, 0.5)
    """
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if ours.shape != theirs.shape or not ((ours > 0) & (theirs > 0)).all():
        raise InputError("A ratio needs positive errors of the same replicates on both sides.")
    mean, low, high = np.exp(interval(np.log(ours / theirs)))
    return float(mean), float(low), float(high)


def ratio_text(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The :func:`ratio` of errors (replicates,) as ``"0.91 [0.85, 0.97]"``; no interval for fewer than three.

    A value that would be shown as 0.00 becomes ``"below 0.005"``.
    """
    if ratio(ours, theirs)[0] < 0.005:
        return "below 0.005"
    mean, low, high = (readable(x, 2) if x >= 1000 else f"{x:.2f}" for x in ratio(ours, theirs))
    return mean if low == "nan" else f"{mean} [{low}, {high}]"


def readable(value: float, digits: int = 3) -> str:
    """A number for reading: rounded to ``digits`` digits, with powers of ten written out and a true minus sign.

    Example:
        >>> readable(-0.12345), readable(1.5e-7)
        ('−0.123', '1.5·10⁻⁷')
    """
    if not math.isfinite(value):
        return "not finite" if math.isnan(value) else "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = f"10{power}" if mantissa == "1" else f"{mantissa}·10{power}"
    return text.replace("-", "−")
