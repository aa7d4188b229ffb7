"""What the derivatives of a problem have cost."""

from dataclasses import dataclass

__all__ = ["Costs"]


@dataclass
class Costs:
    """Derivative evaluations spent so far, in units of the full batch; a block product of k vectors counts k.

    A gradient on n of N examples counts n/N, so ``gradients`` need not be whole.
    """

    gradients: float = 0
    hvps: int = 0
    thirds: int = 0

    def since(self, before: "Costs") -> "Costs":
        """The evaluations spent since ``before``."""
        return Costs(self.gradients - before.gradients, self.hvps - before.hvps, self.thirds - before.thirds)

    def copy(self) -> "Costs":
        """A copy that later evaluations do not change."""
        return Costs(self.gradients, self.hvps, self.thirds)
