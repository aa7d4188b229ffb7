"""The step-size control of the central flow: accept a substep, halve it, or take a whole step again.

The flow may exceed the edge of stability by a small band. A substep that ends beyond the band is repeated at
half length. Within a step the eigenvectors are assumed to turn as in the last steps. If new ones at its end show the
flow beyond the band, the eigenvectors did not turn as expected, and the step is repeated with new ones in every
substep. An excess that shorter substeps do not reduce is a jump of the curvature (a kink of the activation); the band
is then widened for a while, so that no work is wasted on it.
"""

from typing import Any, NamedTuple

__all__ = ["Control"]

_RETAKES, _SHRINK = (
    5,  # how often a step may be repeated
    16,  # the largest factor by which its substeps may shrink
)
#: Halving a substep should halve the excess; if more than this share remains, the excess has another cause.
_HELPED = 0.7
_JUMP, _ROUGH, _LASTING = (
    2e-3,  # the most by which a jump of the curvature widens the band, as a share of the threshold
    2e-2,  # the same if even the shortest substep ends beyond the band: a flow at the edge never exceeds it by more
    0.9,  # the share of the widening that remains one step later
)


class _Halved(NamedTuple):
    """A substep to be repeated at half length: its end and excess, and the control's state before it."""

    end: float
    excess: float
    shrink: int
    quiet: bool


class Control:
    """Chooses substeps that keep the top effective eigenvalue within its band.

    Args:
        substeps: least number of substeps in a step.
        threshold: the edge of stability.
        band: the accepted excess, relative to the threshold; ``math.inf`` accepts everything.
    """

    def __init__(self, substeps: int, threshold: float, band: float):
        self._least = self._substeps = substeps
        self._threshold, self._band = threshold, band
        self._shrink = 1  # the present substep is 1 / (substeps * shrink)
        self._jump = 0.0  # widening of the band after jumps of the curvature
        self._begin()

    @property
    def count(self) -> int:
        """Number of substeps of the present length in a step."""
        return self._substeps * self._shrink

    @property
    def dt(self) -> float:
        """Length of the next substep; the unit is one optimizer step."""
        return 1.0 / self.count

    def _begin(self) -> None:
        self.retaken = 0  # how often this step was repeated
        self._excess, self._tried = 0.0, self._shrink  # at the step's last end; the shrinkage before the last doubling
        self._quiet = True
        self._halved: _Halved | None = None

    def require(self, substeps: int) -> None:
        """Take at least this many substeps in a step from now on, and no fewer than at the start."""
        self._substeps = max(self._least, substeps)

    def accept(self, top: float, end: float) -> bool:
        """Whether a substep that ends at time ``end`` of its step with top eigenvalue ``top`` is accepted.

        If not, ``dt`` is halved and the substep must be repeated.
        """
        halved = self._halved
        if self._beyond(top):
            excess = top - self._threshold
            if halved is not None and self._jumped(excess, halved.excess):
                self._shrink, self._quiet, self._halved = halved.shrink, halved.quiet, None
                self._widen(excess, _JUMP)
            elif self._shrink < _SHRINK:
                self._halved = _Halved(end, excess, self._shrink, self._quiet)
                self._shrink, self._quiet = 2 * self._shrink, False
                return False
            else:  # the curvature is rough (ReLU), and short substeps do not help for a while
                self._shrink, self._quiet, self._halved = 1, False, None
                self._widen(excess, _ROUGH)
        if self._halved is not None and end > self._halved.end - 1e-9:
            self._halved = None
        return True

    def finish(self, grow: bool) -> None:
        """End a step; with ``grow``, substeps double in length after a step without halving."""
        if grow and self._quiet and self._shrink > 1:
            self._shrink //= 2
        self._jump *= _LASTING
        self._begin()

    def take_again(self, top: float) -> bool:
        """Whether the step just finished must be repeated, given the top eigenvalue ``top`` at its end."""
        excess = top - self._threshold
        if self.retaken > 1 and self._jumped(excess, self._excess):
            self._shrink = self._tried
            self._widen(excess, _JUMP)
            return False
        if not self._beyond(top) or self.retaken == _RETAKES:
            return False
        self._excess, self._tried = excess, self._shrink
        if self.retaken:
            self._shrink = min(2 * self._shrink, _SHRINK)
        self.retaken += 1
        return True

    def state_dict(self) -> dict[str, Any]:
        """The state that is kept between steps."""
        return {"substeps": self._substeps, "shrink": self._shrink, "jump": self._jump}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self._substeps, self._shrink, self._jump = kept["substeps"], kept["shrink"], kept["jump"]
        self._begin()

    def _beyond(self, top: float) -> bool:
        return top > self._threshold * (1 + self._band) + self._jump

    def _jumped(self, excess: float, before: float) -> bool:
        """Whether an excess that was ``before`` is a jump: shorter substeps did not help, and it is small."""
        return excess <= _ROUGH * self._threshold and not excess < _HELPED * before

    def _widen(self, excess: float, most: float) -> None:
        """Accept this excess for a while, up to the share ``most`` of the threshold."""
        self._jump = max(self._jump, min(excess, most * self._threshold))
