"""How a run is compared with its central flow: one rule for every page, fixed before any value is read.

- *Same kernel.* The run and the flow's predictions are averaged with the same Gaussian, over the same steps.
- *Window.* The Gaussian's standard deviation is at least one cycle of the run, as measured by :func:`cycle_length`.
- *Edge.* The flow is at the edge while its top effective eigenvalue is at 2 within the band that its step-size
  control keeps, from below and from above.
- *Start.* Steps count from the end of the run's own first full cycle at the edge: the flow oscillates at once, while
  the optimizer's swing must grow from almost nothing.
- *Length.* There are at least four windows of such steps. Otherwise the comparison is not judged, and says why. (All of
  them go into the averages, which are given up to two windows before the run's end.)
- *Directions.* A direction of the oscillation counts where its predicted variance is not negligible against the
  largest, if there are four windows of averages: which directions swing changes, and a few bursts of one say little.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gfm.central import Run, Settings
from gfm.errors import InputError
from gfm.measures.edge import cycle_length, effective, first_cycle

__all__ = ["SLACK", "Comparison", "alike", "among", "at_edge", "band", "compare", "held", "smooth", "swinging",
           "variances"]

#: With fewer windows of steps at the edge nothing is judged.
WINDOWS = 4
#: A direction counts where its predicted variance exceeds this share of the largest of the run.
SLACK = 0.01
#: Least share of an atlas's cells that must be judged before anything is said about all of them.
ENOUGH = 0.5
#: Standard deviations at either end of a run within which an average would be one-sided.
MARGIN = 2


def smooth(values: np.ndarray, window: float) -> np.ndarray:
    """Gaussian average over time (axis 0) of the finite values.

    It is NaN in the first and last 2 windows, where it would be one-sided, and so everywhere in a short series.

    Args:
        values: (steps + 1, ...).
        window: standard deviation in steps; 0 changes nothing.
    """
    values = np.array(values, dtype=float)
    if window <= 0:
        return values
    known = np.isfinite(values)
    weight = gaussian_filter1d(known.astype(float), window, axis=0, mode="constant", truncate=3)
    total = gaussian_filter1d(np.where(known, values, 0.0), window, axis=0, mode="constant", truncate=3)
    with np.errstate(invalid="ignore", divide="ignore"):
        smoothed = total / weight
    margin = math.ceil(MARGIN * window)
    smoothed[:margin] = np.nan
    smoothed[max(len(values) - margin, 0) :] = np.nan
    return smoothed


def alike(seen: np.ndarray, predicted: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray]:
    """Both series (steps + 1, ...) averaged with one kernel over the steps at which both are known; elsewhere NaN."""
    known = np.isfinite(seen) & np.isfinite(predicted)
    first, second = (np.where(known, smooth(np.where(known, x, np.nan), window), np.nan) for x in (seen, predicted))
    return first, second


def band(run: Run) -> float:
    """The largest distance from the edge, relative to it, at which the run's central flow still counts as at the edge.

    It is the band of the flow's step-size control (``gfm.central.Settings.band``).
    """
    given = run.settings.get("band")
    if given is not None:
        return float(given)
    return Settings.usual_band(run.settings.get("dtype", "float64"), "beta2" in run.settings)


def held(run: Run) -> np.ndarray:
    """(steps + 1, k) whether each effective eigenvalue of the central flow is at 2, within its band below and above."""
    with np.errstate(invalid="ignore"):
        return np.abs(effective(run, "central") / 2.0 - 1.0) <= band(run)


def at_edge(run: Run) -> np.ndarray:
    """(steps + 1,) whether the central flow is at the edge: its largest effective eigenvalue is held there."""
    return held(run)[:, 0]


@dataclass(frozen=True)
class Comparison:
    """A run compared with its flow (or, without a flow, with the edge); made by :func:`compare`.

    Args:
        run: with the process discrete, and central if there is a flow.
        window: standard deviation, in steps, of the average of both.
        counts: (steps + 1,) the steps that count.
        why: why nothing is judged; empty if it is.
    """

    run: Run
    window: float
    counts: np.ndarray = field(repr=False)
    why: str = ""

    @property
    def judged(self) -> bool:
        """Whether the comparison is long enough to be judged."""
        return not self.why

    def claim(self, value: float) -> float | str:
        """The value by which a claim is judged, or a text that says why it is not.

        Infinite values (the flow stopped) are judged in any case.
        """
        return value if self.judged or np.isinf(value) else self.why

    def words(self) -> str:
        """How the run is compared, or why it is not, as a sentence for a page."""
        if not self.judged:
            return f"The run is not held against its flow here: {self.why}."
        return (
            "Run and flow are compared after the same Gaussian average over time (standard deviation "
            f"{self.window:.0f} steps; a cycle takes {cycle_length(self.run):.0f}), at the {self.counts.sum()} steps "
            "at the edge after the run's first full cycle."
        )

    def shortage(self) -> str:
        """What there is of the run at the edge, as half a sentence; for a run that is too short to be judged."""
        there = at_edge(self.run).sum()
        if not there:
            return "its flow never comes to the edge"
        words = f"its flow is at the edge for {there} of {self.run.steps} steps"
        if first_cycle(self.run) is None:
            return f"{words}, and the optimizer completes no cycle"
        needed = WINDOWS * max(self.window, cycle_length(self.run))
        return f"{words}, {self.counts.sum()} of them after the optimizer's first cycle; {needed:.0f} are needed"

    def if_judged(self, text: str, otherwise: str = "") -> str:
        """A text with measured values, if they are judged."""
        return text if self.judged else otherwise

    def pair(self, what: str, predicted: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """(m, ...) averages of the run and of the flow, over the steps that count and at which both are known.

        Args:
            what: "loss", "gradient_norm2", "outputs", ...
            predicted: take the time average that the flow predicts, not the value at the flow's own weights.
        """
        flow = self.run["central"][f"predicted_{what}" if predicted else what]
        return self.of(self.run["discrete"][what], flow)

    def of(self, seen: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same (m, ...) averages of any two series (steps + 1, ...); m = 0 if nothing is judged."""
        first, second = alike(seen, predicted, self.window)
        whole = np.isfinite(first).reshape(len(first), -1).all(1)
        good = self.counts & whole & self.judged
        return first[good], second[good]

    def during(self, values: np.ndarray) -> np.ndarray:
        """The values (steps + 1, ...) at the m steps that count and are known, not averaged; m = 0 if not judged."""
        known = np.isfinite(values).reshape(len(values), -1).all(1)
        return values[self.counts & known & self.judged]


def compare(run: Run, window: float) -> Comparison:
    """Compare a run with its flow by the rule of this module.

    A run without a central flow is compared with the edge: every step after its first full cycle counts.

    Args:
        run: with the process discrete.
        window: least standard deviation of the average, in steps. It becomes one cycle of the run where that is longer.

    Raises:
        InputError: The window is not positive.
    """
    if not window > 0:
        raise InputError(f"A window is a positive number of steps, but it is {window!r}.")
    steps = np.arange(run.steps + 1)
    flow = at_edge(run) if "central" in run.series else np.ones(len(steps), dtype=bool)
    if not flow.any():
        return Comparison(run, window, flow, "the flow never comes to the edge")
    found = first_cycle(run)
    if found is None:
        return Comparison(run, window, np.zeros(len(steps), dtype=bool), "the run has no full cycle at the edge")
    counts = flow & (steps >= found.again)
    needed = max(window, cycle_length(run))
    if counts.sum() < WINDOWS * needed:
        why = f"fewer than {WINDOWS} windows of steps at the edge after the run's first full cycle"
        return Comparison(run, window, counts, why)
    return Comparison(run, needed, counts)


def variances(compared: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """(steps + 1, k) squared displacements along the eigenvectors of Sigma and the predicted variances, averaged alike.

    Squared displacements are (u^T P delta)^2 with u^T P u = 1, in the unit of Sigma's generalised eigenvalues. Both are
    NaN at steps that do not count for a direction (see :func:`swinging`); directions without any are left out.
    """
    central, good = compared.run["central"], swinging(compared)
    seen, predicted = alike(central.displacement**2, central.sigma, compared.window)
    enough = good.any(0)
    return np.where(good, seen, np.nan)[:, enough], np.where(good, predicted, np.nan)[:, enough]


def swinging(compared: Comparison) -> np.ndarray:
    """(steps + 1, k) at which steps each eigenvector of Sigma counts as a direction of the oscillation.

    Its predicted variance exceeds ``SLACK`` of the run's largest, for at least four windows of the steps that count and
    at which the averages are known. They are not in the last two windows of a run: a direction that is there until the
    end needs six.
    """
    central = compared.run["central"]
    sigma = np.nan_to_num(central.sigma)
    good = (sigma > SLACK * sigma.max(initial=0.0)) & compared.counts[:, None] & compared.judged
    known = np.isfinite(alike(central.displacement**2, central.sigma, compared.window)[0])
    return good & ((good & known).sum(0) >= WINDOWS * compared.window)


def among(values: Iterable[float], statistic: Callable[[np.ndarray], float]) -> float | str:
    """A statistic of the cells that could be judged (not NaN), or a text that says why there is none.

    At least half of the cells must be judged: a few that happen to be long enough do not represent the others.
    """
    values = np.array(list(values), dtype=float)
    known = values[~np.isnan(values)]
    if not len(known) or len(known) < ENOUGH * len(values):
        return f"{len(known)} of {len(values)} cells are long enough at the edge"
    return float(statistic(known))
