"""One training run of a small image network, and companions of its optimizer that may save steps."""

import copy
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfm.data import Dataset
from gfm.experiments.learned.image_tasks import network
from gfm.experiments.learned.schedule_free import ScheduleFree
from gfm.nowcasting import Nowcaster
from gfm.randomness import seeding
from gfm.trajectories import Layout, Trajectories, edges_of
from gfm.trajectories.recent import STEP

__all__ = [
    "BATCH", "Averaged", "Companion", "Jumps", "Outer", "TrainingRun", "gate_cost", "recorded", "trajectories"
]

BATCH = 128


def trajectories(
    states: np.ndarray, lr: float, counts: np.ndarray, net: nn.Module | None = None
) -> Trajectories:
    """Trajectories from (runs, states, 3, weights), with AdamW's state and, if a network is given, its tensors.

    Args:
        states: weights and AdamW's two averages.
        lr: its learning rate.
        counts: (runs, states) the optimizer's step count at each state.
        net: the network, if all of its weights are there.
    """
    meta = {"optimizer": "AdamW", "lr": lr}
    if net is not None:
        meta["edges"] = edges_of(net)
    return Trajectories(
        states[:, :, 0],
        np.asarray(counts)[0] - np.asarray(counts)[0, 0],
        meta=meta,
        states={"momentum": states[:, :, 1], "second": states[:, :, 2]},
        layout=None if net is None else Layout.of(net),
        buffers={STEP: np.asarray(counts)},
    )


def gate_cost(evaluations: float, rows: int) -> float:
    """The cost of ``evaluations`` forward passes of ``rows`` images, in training steps.

    For each image a forward pass costs a third of a training step's work.
    """
    return evaluations * rows / BATCH / 3


class Companion:
    """A method that runs beside the optimizer; this base class does nothing."""

    cost = 0.0
    """The cost so far, in training steps."""

    def after_step(self, run: "TrainingRun") -> None:
        """Called after every step of the optimizer."""

    def evaluated(self, run: "TrainingRun") -> Tensor | None:
        """The weights (weights,) at which the run is evaluated; None: the network's present weights."""
        return None


class Jumps(Companion):
    """Jumps of a :class:`gfm.Nowcaster`, with a gate on ``rows`` training images (0: no gate)."""

    def __init__(self, nowcaster: Nowcaster, rows: int) -> None:
        self.nowcaster, self.rows = nowcaster, rows

    def after_step(self, run: "TrainingRun") -> None:
        """Let the nowcaster look; each of its gates draws new images."""
        rows: list[Tensor] = []

        def loss() -> Tensor:
            rows.extend(() if rows else (run.batch(self.rows),))
            with torch.no_grad():
                return run.loss_on(rows[0])

        self.nowcaster.step(loss)
        self.cost = gate_cost(self.nowcaster.evaluations, self.rows)


class Averaged(Companion):
    """Evaluation at an average of the weights, which does not change the training.

    Args:
        length: of the average: with ``moving``, 1/(1 - decay) of an exponential moving average; otherwise the number
            of last weights in a mean (LAWA).
        moving: see ``length``.
    """

    def __init__(self, length: float, moving: bool) -> None:
        self.length, self.moving = length, moving
        self.mean: Tensor | None = None
        self.last: list[Tensor] = []

    def after_step(self, run: "TrainingRun") -> None:
        """Add the new weights to the average."""
        if self.moving:
            here = run.flat()
            self.mean = here if self.mean is None else torch.lerp(self.mean, here, 1 / self.length)
        else:
            self.last = [*self.last, run.flat()][-int(self.length) :]

    def evaluated(self, run: "TrainingRun") -> Tensor | None:
        """The average (weights,)."""
        return self.mean if self.moving else torch.stack(self.last).mean(0)


class Outer(Companion):
    """An outer optimizer on the displacement of every ``period`` steps: SNOO, and Lookahead without momentum.

    With d the slow minus the fast weights: b <- momentum b + d, slow <- slow - rate (momentum b + d), and training
    goes on from the slow weights with the inner optimizer's state.
    """

    def __init__(self, run: "TrainingRun", period: int, rate: float, momentum: float = 0.0) -> None:
        self.period, self.rate, self.momentum = int(period), rate, momentum
        self.slow = run.flat()
        self.buffer = torch.zeros_like(self.slow)

    def after_step(self, run: "TrainingRun") -> None:
        """An outer step whenever a period has passed."""
        if run.steps % self.period == 0:
            d = self.slow - run.flat()
            self.buffer = self.momentum * self.buffer + d
            self.slow = self.slow - self.rate * (self.momentum * self.buffer + d)
            run.put(self.slow)


class TrainingRun:
    """One training run: steps on seeded batches.

    Args:
        data: the images.
        lr: AdamW's learning rate.
        seed: of the initial weights and the batches.
        decay: number of steps over which the learning rate falls linearly to zero; 0 keeps it.
        schedule_free: whether AdamW is schedule-free.
    """

    def __init__(self, data: Dataset, lr: float, seed: int, decay: int = 0, schedule_free: bool = False) -> None:
        self.task = data
        with seeding(seed):
            # channels last: the same numbers in another memory order, which is a third faster on a CPU
            self.net = network(data)
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its overloads
        self.optimizer: torch.optim.Optimizer = (
            ScheduleFree(self.net.parameters(), lr) if schedule_free
            else torch.optim.AdamW(self.net.parameters(), lr, fused=True)
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.lr, self.decay, self.steps = lr, decay, 0

    def flat(self) -> Tensor:
        """(weights,) the current weights, copied."""
        return torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])

    def state(self) -> np.ndarray:
        """(3, weights) weights and AdamW's two averages."""
        rows = [self.flat()]
        for name in ("exp_avg", "exp_avg_sq"):
            found = [self.optimizer.state[p].get(name, torch.zeros_like(p)) for p in self.net.parameters()]
            rows.append(torch.cat([value.detach().reshape(-1) for value in found]))
        return torch.stack(rows).numpy()

    @torch.no_grad()
    def put(self, weights: Tensor) -> None:
        """Continue from other weights (weights,); the optimizer's state is kept."""
        parts = weights.to(torch.float32).split([p.numel() for p in self.net.parameters()])
        for parameter, part in zip(self.net.parameters(), parts, strict=True):
            parameter.copy_(part.view(parameter.shape))

    def batch(self, rows: int) -> Tensor:
        """(rows,) numbers of training images, drawn with replacement."""
        return torch.randint(len(self.task.inputs), (rows,), generator=self.generator)

    def loss_on(self, rows: Tensor) -> Tensor:
        """Training loss on the images with these numbers, a scalar."""
        return F.cross_entropy(self.net(self.task.inputs[rows]), self.task.targets[rows])

    def step(self) -> None:
        """One step of the optimizer on a batch."""
        if self.decay:
            self.optimizer.param_groups[0]["lr"] = self.lr * max(1 - self.steps / self.decay, 0.0)
        self.optimizer.zero_grad()
        self.loss_on(self.batch(BATCH)).backward()
        self.optimizer.step()
        self.steps += 1

    @torch.no_grad()
    def test(self, weights: Tensor | None = None) -> tuple[float, float]:
        """Loss and accuracy on the test images, at the given weights (weights,) or the network's own."""
        targets = self.task.test_targets
        assert targets is not None
        here = self.flat()
        if weights is not None:
            self.put(weights)
        out = self.net(self.task.test_inputs)
        if weights is not None:
            self.put(here)
        return F.cross_entropy(out, targets).item(), (out.argmax(1) == targets).float().mean().item()

    def twin(self) -> "TrainingRun":
        """An independent copy that continues in the same way; only for AdamW."""
        other = copy.copy(self)
        other.net = copy.deepcopy(self.net)
        other.generator = torch.Generator()
        other.generator.set_state(self.generator.get_state())
        other.optimizer = torch.optim.AdamW(other.net.parameters(), fused=True)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other


@lru_cache(maxsize=24)  # every forecaster of a table is fitted on the same runs
def recorded(data: Dataset, lr: float, seed: int, steps: int, every: int) -> np.ndarray:
    """(states, 3, weights) of plain training, recorded every ``every`` steps from 0 to ``steps``."""
    run = TrainingRun(data, lr, seed)
    found = [run.state()]
    while run.steps < steps:
        run.step()
        if run.steps % every == 0:
            found.append(run.state())
    states = np.stack(found)
    states.setflags(write=False)  # the cached array is shared
    return states
