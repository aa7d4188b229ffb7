"""Roots of descent along filtered gradients: a search for the first unstable one, and its path in the complex plane."""

import math
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gfm.checks import number, whole
from gfm.errors import InputError
from gfm.optimizers.stability import Edge, edge_of_stability
from gfm.store.experiment import Context, Experiment, Result

__all__ = ["FirstRoots", "first_unstable", "roots", "track"]

Coefficients = tuple[float, ...]


def roots(n: Coefficients, d: Coefficients, decay: float, levels: np.ndarray) -> np.ndarray:
    """(m, k) the roots of z - 1 + decay + level Q(z) at each of the levels (m,), as eigenvalues."""
    size = max(len(n), len(d))
    filtered, own = (np.pad(x, (0, size - len(x))) for x in (n, d))
    rows = np.polymul([1.0, decay - 1.0], own) + np.multiply.outer(levels, np.append(0.0, filtered))
    companions = np.tile(np.eye(size, k=-1), (len(levels), 1, 1))
    companions[:, 0] = -rows[:, 1:] / rows[:, :1]
    return np.linalg.eigvals(companions)


def first_unstable(n: Coefficients, d: Coefficients, decay: float = 0.0, ratio: float = 1.003) -> Edge:
    """The first level with a root outside the unit circle, by trying levels over eight decades, then by bisection.

    Args:
        n: coefficients of the filter's numerator.
        d: those of its denominator.
        decay: share of the weights that a step subtracts.
        ratio: of successive levels.

    Raises:
        InputError: The first level is unstable already, or none is.
    """

    def outside(levels: np.ndarray) -> np.ndarray:
        return abs(roots(n, d, decay, levels)).max(1) > 1.0 + 1e-12

    start = low = 1e-3 / sum(abs(x) for x in n)
    chunk = ratio ** np.arange(257)
    while not (found := outside(low * chunk)).any() and low < 1e8 * start:
        low *= chunk[-1]
    if not found.any() or low == start and found[0]:
        raise InputError(f"Stability is not lost between the levels {start:.3g} and {low:.3g}.")
    high = low * chunk[found.argmax()]
    low = high / ratio
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if outside(np.array([middle]))[0] else (middle, high)
    last = roots(n, d, decay, np.array([high]))[0]
    root = last[abs(last).argmax()]
    return Edge(float(high), complex(root.real, abs(root.imag)))


def track(n: Coefficients, d: Coefficients, shares: np.ndarray) -> np.ndarray:
    """(m,) complex, in the upper half plane: the root that is unstable first, at shares (m,) of the edge's level."""
    edge = edge_of_stability(n, d)
    all_roots, path = roots(n, d, 0.0, shares * edge.level), np.zeros(len(shares), dtype=complex)
    start = int(abs(shares - 1.0).argmin())
    for order in (range(start, len(shares)), range(start, -1, -1)):  # from the edge on, to either side
        near = edge.root
        for i in order:
            near = path[i] = all_roots[i][abs(all_roots[i] - near).argmin()]
    return path.real + 1j * abs(path.imag)


@dataclass(frozen=True)
class FirstRoots(Experiment):
    """The edge of random filters from ``edge_of_stability``, and by a search.

    A filter has one to four random coefficients, up to three random poles, and gain 1; every second has weight decay.

    Arrays, by filter: level (filters,), root (filters, 2) with its real and imaginary part, searched (filters,), the
    level found by the search, decay (filters,).

    Args:
        filters: their number.
        seed: of the draw.
        ratio: of successive levels in the search.

    Raises:
        InputError: A value is out of range.
    """

    name: ClassVar[str] = "first-roots"

    filters: int = 400
    seed: int = 0
    ratio: float = 1.003

    def __post_init__(self) -> None:
        whole("filters", self.filters, 1)
        number("ratio", self.ratio, lambda x: 1 < x < 2, "between 1 and 2")

    def compute(self, context: Context) -> Result:
        """Draw the filters, and find their edges both ways."""
        started, draw, rows = time.perf_counter(), np.random.default_rng(self.seed), []
        for done in range(self.filters):
            n, d = _random_filter(draw)
            decay = float(draw.uniform(0, 0.5)) if done % 2 else 0.0
            (level, root), searched = edge_of_stability(n, d, decay), first_unstable(n, d, decay, self.ratio)
            rows.append([level, root.real, root.imag, searched.level, decay])
            context.progress(done + 1, self.filters)
        level, real, imaginary, searched, decay = np.array(rows).T
        return Result({"level": level, "root": np.stack([real, imaginary], 1), "searched": searched, "decay": decay},
                      {"seconds": time.perf_counter() - started})


def _random_filter(draw: np.random.Generator) -> tuple[Coefficients, Coefficients]:
    """Coefficients n and d, of gain 1 and with poles inside a circle of radius 0.95."""
    turn = draw.uniform(0, 0.95) * np.exp(1j * draw.uniform(0, math.pi))
    pair = [turn, turn.conjugate()] if draw.random() < 0.5 else []
    poles = [*draw.uniform(-0.95, 0.95, draw.integers(0, 2)), *pair]
    d = np.real(np.poly(poles)) if poles else np.ones(1)
    n = draw.standard_normal(draw.integers(1, 5))
    return tuple((n * d.sum() / n.sum()).tolist()), tuple(d.tolist())
