"""Batches for runs that are trained side by side: one for each run at every step, from tensors or a ``DataLoader``.

All can be continued after an interruption, since their draws depend only on the seed and the step.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gfm.autograd import ordinary
from gfm.checks import flag
from gfm.errors import InputError
from gfm.randomness import seeding

__all__ = ["Batches", "FromLoader", "FromTensors", "Rows", "drawing"]


class Batches(Protocol):
    """An endless sequence of batches of all runs."""

    size: int | None
    """Examples of a run in one batch (the last of an epoch may have fewer); None for all, or if unknown."""

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (runs, batch, ...) of the next step."""
        ...

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by which a resumed run recognises the data."""
        ...


class Rows:
    """An endless sequence of (runs, batch) row numbers; every run has its own order, new in every epoch.

    The last batch of an epoch contains the remaining examples.
    """

    def __init__(self, count: int, batch: int, runs: int, seed: int) -> None:
        self.count, self.batch, self.runs = count, batch, runs
        self.generator = torch.Generator().manual_seed(seed)
        self.order: Tensor | None = None
        self.at = count  # position of the next batch in the epoch; count: a new epoch begins

    def next(self) -> Tensor:
        """The next rows of every run, (runs, batch)."""
        if self.batch >= self.count:
            return torch.arange(self.count).expand(self.runs, self.count)
        if self.at >= self.count:
            draws = torch.rand(self.runs, self.count, generator=self.generator)
            self.order, self.at = draws.argsort(dim=1), 0
        assert self.order is not None  # at is count before the first draw
        self.at += self.batch
        return self.order[:, self.at - self.batch : self.at]

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        return {"generator": self.generator.get_state(), "order": self.order, "at": self.at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``."""
        self.generator.set_state(state["generator"])
        self.order, self.at = state["order"], state["at"]


class FromTensors:
    """Batches of examples that all runs share, or of one data set per run; see :class:`Batches`.

    Args:
        inputs: (n, ...) or (runs, n, ...).
        targets: likewise.
        batch: examples per step; None for all.
        runs: number of runs.
        seed: of the order of the examples.
        per_run: whether the first axis is that of the runs.

    Raises:
        InputError: They do not hold the same number of examples, or none; or ``per_run`` is None, and both readings
            are possible.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, batch: int | None, runs: int, seed: int, per_run: bool | None = None
    ) -> None:
        for name, value in (("inputs", inputs), ("targets", targets)):
            if not isinstance(value, Tensor) or not value.ndim:
                raise InputError(f"{name} must be a tensor (n, ...); or give a DataLoader of both and targets=None.")
        self.inputs, self.targets, self.runs, self.size = ordinary(inputs), ordinary(targets), runs, batch
        if per_run is None and inputs.shape[0] == targets.shape[0] == runs and min(inputs.ndim, targets.ndim) > 1:
            raise InputError(f"inputs and targets of {runs} rows for {runs} runs are one data set per run, or one "
                             "that all share: say per_run=True or per_run=False.")
        self.own = per_run is not None and flag("per_run", per_run)
        if self.own and (inputs.ndim < 2 or targets.ndim < 2 or not inputs.shape[0] == targets.shape[0] == runs):
            raise InputError(f"With per_run=True, inputs and targets must be ({runs}, n, ...), but they are "
                             f"{tuple(inputs.shape)} and {tuple(targets.shape)}.")
        count = inputs.shape[1] if self.own else inputs.shape[0]
        if count == 0 or targets.shape[1 if self.own else 0] != count:
            raise InputError("inputs and targets must hold the same number of examples, at least one.")
        rows = Rows(count, batch or count, runs, seed)
        self.rows, self.state, self.restore = rows, rows.state, rows.restore

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (runs, batch, ...) of the next step."""
        rows = self.rows.next()
        if self.own:
            run = torch.arange(self.runs)[:, None]
            return self.inputs[run, rows], self.targets[run, rows]
        return self.inputs[rows], self.targets[rows]

    def tensors(self) -> dict[str, Tensor]:
        """Inputs and targets, (n, ...) or (runs, n, ...)."""
        return {"inputs": self.inputs, "targets": self.targets}


class FromLoader:
    """Batches of a ``DataLoader`` with pairs (inputs, targets); see :class:`Batches`.

    Each run makes its own passes over the data. The loader's sampler and the data set's random transforms draw from the
    global generators of torch, NumPy or Python (or the loader's own), which are seeded by seed, run, pass and batch and
    restored afterwards. Batches are fetched in this process, without the loader's workers.

    Args:
        loader: of a data set with ``__getitem__`` and ``__len__``.
        runs: number of runs.
        seed: of all draws.

    Raises:
        InputError: The loader is empty, its data set is an ``IterableDataset``, or a batch is no pair of tensors with
            the same number of examples, or is not the same when it is drawn again.
    """

    def __init__(self, loader: DataLoader, runs: int, seed: int) -> None:
        if isinstance(loader.dataset, IterableDataset):
            raise InputError("The DataLoader's data set is an IterableDataset, whose order cannot be drawn anew for "
                             "each run: use one with __getitem__ and __len__.")
        self.loader, self.runs, self.seed, self.size = loader, runs, seed, loader.batch_size
        sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        self.sampler: Any = sampler
        owners = (loader, loader.sampler, sampler, getattr(sampler, "sampler", None))
        self.generators = [own for own in (getattr(owner, "generator", None) for owner in owners)
                           if isinstance(own, torch.Generator)]
        self.passes, self.at = 0, 0  # number of the present pass, and of the next batch in it
        self.order = self._orders()
        self.first = self._batch(0)
        if not all(torch.equal(a, b) for a, b in zip(self.first, self._batch(0), strict=True)):
            raise InputError("A batch of the DataLoader changes when it is drawn again: random transforms must draw "
                             "from the global generators of torch, NumPy or Python.")

    def next(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets (runs, batch, ...) of the next step.

        Raises:
            InputError: The batches of the runs differ in shape.
        """
        if self.at == len(self.order[0]):
            self.passes, self.at = self.passes + 1, 0
            self.order = self._orders()
        pairs = [self._batch(run) for run in range(self.runs)]
        self.at += 1
        shapes = {tuple(tuple(part.shape) for part in pair) for pair in pairs}
        if len(shapes) > 1:
            sizes = sorted({pair[0].shape[0] for pair in pairs})
            raise InputError(f"The DataLoader's batches differ between runs, in size ({', '.join(map(str, sizes))} "
                             "examples) or shape, so that runs cannot be trained side by side.")
        inputs, targets = (torch.stack(parts) for parts in zip(*pairs, strict=True))
        return inputs, targets

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        return {"passes": self.passes, "at": self.at}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state``."""
        self.passes, self.at = state["passes"], state["at"]
        self.order = self._orders()

    def tensors(self) -> dict[str, Tensor]:
        """The first batch (batch, ...) of the first run, which represents the data set."""
        return dict(zip(("inputs", "targets"), self.first, strict=True))

    def _orders(self) -> list[list[Any]]:
        """The indices of every batch of the present pass, run by run."""
        orders = []
        for run in range(self.runs):
            with drawing(self.seed, run, self.passes, generators=self.generators):
                orders.append(list(self.sampler))
        if not orders[0] or {len(order) for order in orders} != {len(orders[0])}:
            raise InputError("The DataLoader must have at least one batch, and in every pass as many for each run.")
        return orders

    def _batch(self, run: int) -> tuple[Tensor, Tensor]:
        """The next batch of one run, as the loader would make it."""
        loader, index = self.loader, self.order[run][self.at]
        many = getattr(loader.dataset, "__getitems__", None)
        with drawing(self.seed, run, self.passes, self.at, generators=self.generators):
            if loader.batch_sampler is None:
                found = loader.collate_fn(loader.dataset[index])
            else:
                found = loader.collate_fn(many(index) if many else [loader.dataset[i] for i in index])
        pair = isinstance(found, (tuple, list)) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)
        if not pair or not all(part.ndim for part in found) or len(found[0]) != len(found[1]) or not len(found[0]):
            what = [type(part).__name__ for part in found] if isinstance(found, (tuple, list)) else type(found).__name__
            raise InputError(f"Each batch of the DataLoader must be a pair (inputs, targets) of tensors with the same "
                             f"number of examples, at least one; this one is {what}.")
        return found[0], found[1]


@contextmanager
def drawing(
    *numbers: object, generators: Sequence[torch.Generator] = (), device: str | torch.device = "cpu"
) -> Iterator[None]:
    """Context in which random generators are seeded by the numbers (or words); afterwards their states are restored.

    They are the global ones of torch (for the CPU and ``device``), NumPy and Python, and the further ``generators``.
    """
    seed = int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")
    python, numpy, others = random.getstate(), np.random.get_state(), [own.get_state() for own in generators]
    with seeding(seed, device):
        for own in generators:
            own.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for own, state in zip(generators, others, strict=True):
                own.set_state(state)
