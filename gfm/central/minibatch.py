"""The optimizer on mini-batches: stochastic steps, with full-batch curvature measured along its path."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gfm.central.base import Observation, Process
from gfm.central.settings import Settings
from gfm.checks import MOST_SEED, one_of, whole
from gfm.errors import InputError
from gfm.optimizers import Optimizer, State
from gfm.problem import Problem

__all__ = ["Batches", "Minibatch", "Stochastic"]

ORDERS = ("shuffled", "random", "sequential")


@dataclass(frozen=True)
class Minibatch:
    """How the process "minibatch" draws its batches.

    Args:
        batch_size: number of examples in a batch; None: 32, or half of the examples if they are fewer than 64.
        order: "shuffled": all examples once in every epoch, in a new random order; "sequential": the same in the
            order of the data. In both, the last batch of an epoch may be smaller. "random": the examples of a batch
            are drawn without replacement, independently of earlier steps.
        seed: of the batches.

    Raises:
        InputError: A value is out of range, or the order is unknown.
    """

    batch_size: int | None = None
    order: str = "shuffled"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", whole("batch_size", self.batch_size, 1))
        one_of("order", self.order, ORDERS)
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, MOST_SEED))

    def size(self, n: int) -> int:
        """Number of examples in a batch of a problem with ``n`` examples.

        Raises:
            InputError: ``batch_size`` exceeds n.
        """
        if self.batch_size is None:
            return max(1, min(32, n // 2))
        if self.batch_size > n:
            raise InputError(f"batch_size asks for {self.batch_size} examples in a batch, but there are only {n}.")
        return self.batch_size


class Batches:
    """An endless sequence of batches of n examples, each a tensor of indices (b,) on the host."""

    def __init__(self, options: Minibatch, n: int):
        self._n, self._size, self._order = n, options.size(n), options.order
        self._generator = torch.Generator().manual_seed(options.seed)
        self._left = torch.empty(0, dtype=torch.long)  # examples that remain in this epoch

    def draw(self) -> Tensor:
        """The next batch, indices (b,)."""
        if self._order == "random" or not len(self._left):
            sequential = self._order == "sequential"
            self._left = torch.arange(self._n) if sequential else torch.randperm(self._n, generator=self._generator)
        batch, self._left = self._left[: self._size], self._left[self._size :]
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The state on which later batches depend."""
        return {"generator": self._generator.get_state(), "left": self._left}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Continue from the ``state_dict`` of batches with the same options."""
        self._generator.set_state(kept["generator"])
        self._left = kept["left"]


class Stochastic(Process):
    """The optimizer with gradients of mini-batches; its state, and so P, follows those gradients.

    Every ``eigen_every`` steps the loss, its gradient and the eigenvalues of P^{-1} H are measured on the full batch.
    """

    def __init__(
        self, problem: Problem, optimizer: Optimizer, settings: Settings, w: Tensor, state: State,
        options: Minibatch | None = None,
    ):
        super().__init__(problem, optimizer, settings, w, state)
        self.batches = Batches(options or Minibatch(), problem.n)

    def state_dict(self) -> dict[str, Any]:
        """See ``Process``."""
        return super().state_dict() | {"batches": self.batches.state_dict()}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """See ``Process``."""
        super().load_state_dict(kept)
        self.batches.load_state_dict(kept["batches"])

    def observe(self, t: int) -> Observation:
        """See ``Process``."""
        batch = self.batches.draw().to(self.problem.device)
        loss, self.gradient = self.problem.value_and_gradient(self.w, batch)
        self.state = self.optimizer.update(self.state, self.gradient)
        seen: Observation = {"minibatch_loss": float(loss)}
        if t % self.settings.eigen_every == 0:
            point = self.problem.at(self.w, self.tracker.width)
            seen |= self.observation(point, self.tracker.refresh(point, self.optimizer.edge(self.state)))
        return seen

    def advance(self) -> None:
        """See ``Process``."""
        self.w = self.optimizer.step(self.w, self.state, self.gradient)
