"""One training run of a small image network that can look ahead and jump: steps, records, gates."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfm.data import Dataset
from gfm.experiments.learned.image_tasks import network
from gfm.forecasters import Forecaster
from gfm.matching.optimizer_state import STEP
from gfm.nets.seeding import seeding
from gfm.trajectories import Trajectories, edges_of

__all__ = ["EVERY", "GATE_ROWS", "TrainingRun", "gate_cost", "recorded", "trajectories"]

BATCH = 128
EVERY = 4  # optimizer steps between recorded states
GATE_ROWS = 256  # training images a gate looks at


def trajectories(
    states: np.ndarray, lr: float, counts: np.ndarray, net: nn.Module | None = None
) -> Trajectories:
    """Trajectories from (runs, states, 3, weights), with AdamW's state and, if a network is given, its graph.

    Args:
        states: weights and AdamW's two averages.
        lr: its learning rate.
        counts: (runs, states) how many steps it had made at each state.
        net: the network.
    """
    states = states.astype(np.float64)
    meta = {"optimizer": "AdamW", "lr": lr}
    if net is not None:
        meta["edges"] = edges_of(net)
    return Trajectories(
        states[:, :, 0],
        steps=np.arange(states.shape[1]) * EVERY,
        meta=meta,
        states={"momentum": states[:, :, 1], "second": states[:, :, 2]},
        buffers={STEP: np.asarray(counts)},
    )


def gate_cost(candidates: int) -> float:
    """The cost of a gate in training steps; its forward passes cost a third of a step's work per row."""
    return (candidates + 1) * GATE_ROWS / BATCH / 3


class TrainingRun:
    """One training run: steps on seeded batches, recorded every EVERY steps, with jumps on request.

    Args:
        data: the images.
        lr: AdamW's learning rate.
        seed: of the initial weights and the batches.
        seen: number of recorded states after the first that a forecaster uses.
    """

    def __init__(self, data: Dataset, lr: float, seed: int, seen: int) -> None:
        self.task, self.seen = data, seen
        with seeding(seed):
            # channels last: the same numbers in another memory order, a third faster on a CPU
            self.net = network(data)
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its overloads
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr, fused=True)
        self.generator = torch.Generator().manual_seed(seed)
        self.lr, self.steps = lr, 0
        self.recorded = [self.state()]

    def state(self) -> np.ndarray:
        """(3, weights) weights and AdamW's two averages."""
        rows = [self._flat()]
        for name in ("exp_avg", "exp_avg_sq"):
            found = [self.optimizer.state[p].get(name, torch.zeros_like(p)) for p in self.net.parameters()]
            rows.append(torch.cat([value.detach().reshape(-1) for value in found]))
        return torch.stack(rows).numpy()

    def observed(self) -> Trajectories:
        """The last states, as a forecaster sees them."""
        counts = self.steps - self.steps % EVERY - EVERY * np.arange(self.seen, -1, -1)
        return trajectories(np.stack(self.recorded[-self.seen - 1 :])[None], self.lr, counts[None])

    def weights(self) -> np.ndarray:
        """(weights,) the current weights."""
        return self._flat().numpy()

    def _flat(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.net.parameters()])

    def put(self, weights: np.ndarray) -> None:
        """Continue from other weights; the optimizer's state is kept."""
        parts = torch.from_numpy(weights.astype(np.float32)).split([p.numel() for p in self.net.parameters()])
        with torch.no_grad():
            for parameter, part in zip(self.net.parameters(), parts, strict=True):
                parameter.copy_(part.view(parameter.shape))

    def step(self) -> None:
        """One step of AdamW on a batch."""
        rows = torch.randint(len(self.task.inputs), (BATCH,), generator=self.generator)
        self.optimizer.zero_grad()
        F.cross_entropy(self.net(self.task.inputs[rows]), self.task.targets[rows]).backward()
        self.optimizer.step()
        self.steps += 1
        if self.steps % EVERY == 0:
            self.recorded.append(self.state())

    @torch.no_grad()
    def loss(self, test: bool = False, rows: Tensor | None = None) -> tuple[float, float]:
        """Loss and accuracy on the test images, or on the given training images."""
        data = self.task
        x, y = (data.test_inputs, data.test_targets) if test else (data.inputs[rows], data.targets[rows])
        assert y is not None
        out = self.net(x)
        return F.cross_entropy(out, y).item(), (out.argmax(1) == y).float().mean().item()

    def jump(self, model: Forecaster, ahead: Sequence[int]) -> bool:
        """Try forecasts; jump to the one with the least training loss, if that is lower than the present loss.

        Args:
            model: the fitted forecaster.
            ahead: numbers of recorded states ahead to try.

        Returns:
            Whether the run jumped.
        """
        here = self.weights()
        forecast = model.forecast(self.observed(), max(ahead))[0]
        rows = torch.randint(len(self.task.inputs), (GATE_ROWS,), generator=self.generator)
        best, chosen = self.loss(rows=rows)[0], None
        for states in ahead:
            self.put(forecast[states - 1])
            value = self.loss(rows=rows)[0]
            if value < best:
                best, chosen = value, forecast[states - 1]
        self.put(here if chosen is None else chosen)
        if chosen is not None:
            self.recorded = [self.state()]  # a new window begins after a jump
        return chosen is not None

    def twin(self) -> TrainingRun:
        """An independent copy that continues in the same way."""
        other = copy.copy(self)
        other.net, other.recorded = copy.deepcopy(self.net), list(self.recorded)
        other.generator = torch.Generator()
        other.generator.set_state(self.generator.get_state())
        other.optimizer = torch.optim.AdamW(other.net.parameters(), fused=True)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other


@lru_cache(maxsize=24)  # every forecaster of a table is fitted on the same runs
def recorded(data: Dataset, lr: float, seed: int, steps: int) -> np.ndarray:
    """(states, 3, weights) of plain training, recorded every EVERY steps from 0 to ``steps``."""
    run = TrainingRun(data, lr, seed, 1)
    while run.steps < steps:
        run.step()
    states = np.stack(run.recorded)
    states.setflags(write=False)  # the cached array is shared
    return states
