"""Recording weights from real training: torch's own optimizers, many runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from gfm.errors import InputError, NumericalError, UnknownNameError
from gfm.trajectories.trajectories import Trajectories

__all__ = ["OPTIMIZERS", "edges_of", "record"]

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], dict[str, str]]] = {
    # name -> class, its options, names of its state: ours -> torch's
    "SGD": (torch.optim.SGD, {}, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, {"momentum": "momentum_buffer"}),
    "RMSprop": (torch.optim.RMSprop, {"alpha": 0.99}, {"second": "square_avg"}),
    "Adam": (torch.optim.Adam, {}, {"momentum": "exp_avg", "second": "exp_avg_sq"}),
    "AdamW": (torch.optim.AdamW, {}, {"momentum": "exp_avg", "second": "exp_avg_sq"}),
}


def record(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: str = "SGD",
    lr: float = 1e-3,
    runs: int = 200,
    steps: int = 200,
    batch: int | None = None,
    every: int = 1,
    states: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Trajectories:
    """Train ``runs`` networks at once and keep their weights.

    The weights of all runs are stacked and trained by one torch optimizer on the sum of their losses;
    these optimizers act on each number alone, so every run goes exactly as it would alone.

    build: makes a module; called once a run, with torch's generator seeded by (seed, run).
    inputs, targets: (n, ...) shared by all runs, or (runs, n, ...) one data set a run.
    loss: (outputs, targets) of one batch -> scalar mean.
    optimizer: a name in :data:`OPTIMIZERS`; options go to its class. lr: learning rate.
    batch: examples a step, reshuffled every epoch and run; the last batch of an epoch holds the rest.
        None: all of them.
    every: states are kept at steps 0, every, 2 every, ... states: also keep the optimizer's state.

    Returns trajectories in the module's dtype, groups named after the parameters' tensors, with the
    optimizer, its options and lr in ``meta``. Raises UnknownNameError, InputError, and NumericalError
    when a run diverges.
    """
    if optimizer not in OPTIMIZERS:
        raise UnknownNameError(f"No optimizer {optimizer!r} here; use one of {list(OPTIMIZERS)}.")
    if lr <= 0 or min(runs, steps, every) < 1 or (batch is not None and batch < 1):
        raise InputError("lr must be positive, and runs, steps, every and batch at least 1.")
    own_data = inputs.shape[0] == runs and targets.shape[0] == runs and targets.ndim > 1
    count = inputs.shape[1] if own_data else inputs.shape[0]
    if count == 0 or targets.shape[1 if own_data else 0] != count:
        raise InputError("inputs and targets must hold the same number of examples, at least one.")
    modules = []
    with torch.random.fork_rng(devices=[]):
        for run in range(runs):
            torch.manual_seed(1_000_003 * seed + run)
            modules.append(build())
    weights, buffers = stack_module_state(modules)
    if buffers:
        raise InputError("A module with buffers (batch norm, ...) cannot be recorded side by side.")
    leaves = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    cls, defaults, names = OPTIMIZERS[optimizer]
    chosen = {**defaults, **options}
    method = cls(list(leaves.values()), lr=lr, **chosen)
    template = modules[0]

    def one(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(template, parameters, (x,)), y)

    losses = vmap(one)
    batches = _batches(count, batch or count, runs, seed)
    kept = [_flat(leaves, runs)]
    state: dict[str, list[np.ndarray]] = {name: [np.zeros_like(kept[0])] for name in names}
    for step in range(1, steps + 1):
        rows = next(batches)
        if own_data:
            x, y = (data[torch.arange(runs)[:, None], rows] for data in (inputs, targets))
        else:
            x, y = inputs[rows], targets[rows]
        method.zero_grad()
        total = losses(leaves, x, y).sum()
        if not torch.isfinite(total):
            raise NumericalError(f"Training diverged at step {step}; lower lr={lr}.")
        total.backward()
        method.step()
        if step % every == 0:
            kept.append(_flat(leaves, runs))
            if states:
                for ours, theirs in names.items():
                    values = {n: method.state[leaf][theirs] for n, leaf in leaves.items()}
                    state[ours].append(_flat(values, runs))
        if progress is not None and step % 20 == 0:
            progress(step, steps)
    groups = [name for name, leaf in leaves.items() for _ in range(leaf[0].numel())]
    meta = {"optimizer": optimizer, "lr": lr, "options": chosen, "batch": batch, "seed": seed}
    edges = edges_of(template)
    if edges is not None:
        meta["edges"] = edges
    return Trajectories(
        np.stack(kept, axis=1),
        np.arange(len(kept)) * every,
        groups,
        meta,
        {name: np.stack(values, axis=1) for name, values in state.items()} if states else None,
    )


def edges_of(module: nn.Module) -> list[list[int]] | None:
    """(from, to) neuron numbers of every weight of a stack of linear layers, or None for others.

    A bias is an edge from a neuron of its own to the neuron that it shifts.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if sum(p.numel() for layer in layers for p in layer.parameters()) != sum(
        p.numel() for p in module.parameters()
    ):
        return None
    edges: list[list[int]] = []
    before, after = 0, layers[0].in_features
    for layer in layers:
        edges += [
            [before + i, after + o]
            for o in range(layer.out_features)
            for i in range(layer.in_features)
        ]
        constant = after + layer.out_features
        if layer.bias is not None:
            edges += [[constant, after + o] for o in range(layer.out_features)]
        before, after = after, constant + 1
    return edges


def _flat(tensors: dict[str, Tensor], runs: int) -> np.ndarray:
    parts: Sequence[Tensor] = [value.detach().reshape(runs, -1) for value in tensors.values()]
    return torch.cat(list(parts), dim=1).cpu().numpy()


def _batches(count: int, batch: int, runs: int, seed: int):
    """Endless (runs, batch) row numbers: every run its own order, new in every epoch."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        if batch >= count:
            yield torch.arange(count).expand(runs, count)
            continue
        order = torch.rand(runs, count, generator=generator).argsort(dim=1)
        yield from order.split(batch, dim=1)
