"""Recording weights during real training: torch's own optimizers, many runs in parallel."""

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.data import DataLoader

from gfm.autograd import with_gradients
from gfm.checks import MOST, MOST_SEED, counts, flag, function, instance, known, number, whole, writable
from gfm.errors import InputError, NumericalError, said
from gfm.randomness import seeding
from gfm.trajectories import resume
from gfm.trajectories.arrays import as_array
from gfm.trajectories.batches import Batches, FromLoader, FromTensors, drawing
from gfm.trajectories.graph import edges_of
from gfm.trajectories.layout import Layout
from gfm.trajectories.rates import rates_of
from gfm.trajectories.trajectories import Trajectories

__all__ = ["OPTIMIZERS", "record"]

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], dict[str, Any], dict[str, str]]] = {
    # name -> class, options, and names of its state: ours -> torch's
    "SGD": (torch.optim.SGD, {}, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, {"momentum": "momentum_buffer"}),
    "RMSprop": (torch.optim.RMSprop, {"alpha": 0.99}, {"second": "square_avg"}),
    "Adam": (torch.optim.Adam, {}, {"momentum": "exp_avg", "second": "exp_avg_sq"}),
    "AdamW": (torch.optim.AdamW, {}, {"momentum": "exp_avg", "second": "exp_avg_sq"}),
}
_APART = 1_000_003  # distance between torch's seeds for seed n and n + 1, larger than any number of runs


@with_gradients
def record(
    build: Callable[[], nn.Module], inputs: Tensor | DataLoader, targets: Tensor | None,
    loss: Callable[[Tensor, Tensor], Tensor], optimizer: str = "SGD", lr: float = 1e-3, runs: int = 200,
    steps: int = 200, batch: int | None = None, every: int | Sequence[int] = 1, states: bool = False, seed: int = 0,
    progress: Callable[[int, int], None] | None = None, checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    schedule: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
    per_run: bool | None = None, **options: Any,
) -> Trajectories:
    """Train ``runs`` networks at once and keep their weights.

    The weights of all runs are stacked and trained by one torch optimizer on the sum of their losses.
    These optimizers act on each number separately, so every run proceeds exactly as it would alone, including running
    statistics. Random numbers of the module (the masks of dropout) are drawn for all runs together, from torch's
    generator seeded by seed and step: they are reproducible, but depend on the number of runs.

    Args:
        build: makes a module; called once per run, with torch's generator seeded by (seed, run).
        inputs: (n, ...) shared by all runs, or (runs, n, ...) with ``per_run``; or a ``DataLoader`` of pairs
            (inputs, targets), over which each run makes its own passes, with every random draw seeded by seed, run,
            pass and batch. Its workers are not used.
        targets: likewise; None with a ``DataLoader``.
        loss: (outputs, targets) of one batch -> scalar mean.
        optimizer: a name in ``OPTIMIZERS``.
        lr: learning rate.
        runs: number of networks.
        steps: number of training steps.
        batch: examples per step, reshuffled in every epoch and run; the last batch of an epoch contains the rest.
            None: all examples, or the ``DataLoader``'s own batches.
        every: states are kept at steps 0, every, 2 every, ...; or a sequence of the steps themselves, whole numbers
            up to ``steps`` (step 0 is always kept).
        states: whether to keep the optimizer's state too.
        seed: of the initial weights and the batches.
        progress: called as ``progress(step, steps)`` every 20 steps.
        checkpoint: a file written every ``checkpoint_every`` steps (with all states kept so far, so choose longer
            intervals if they are large) and removed at the end. If it exists, recording resumes from it, and on the
            same machine the result equals that of an uninterrupted run bit for bit. The call must be the same in data,
            initial weights and options; of ``build`` and ``loss`` only the layers and the name are compared, of a
            ``DataLoader`` its sizes and the first batch.
        checkpoint_every: steps between checkpoints.
        schedule: makes a torch scheduler for an optimizer, as in ``lambda method: CosineAnnealingLR(method, 200)``; it
            is stepped after every optimizer step.
        per_run: whether inputs and targets hold one data set per run. It must be given if they have as many rows as
            there are runs.
        **options: further arguments of the optimizer's class.

    Returns:
        Trajectories in the module's dtype, with the module's layout and buffers, the optimizer, its options
        and lr in ``meta``, and the weights' graph (:func:`edges_of`) if there is one. With a schedule,
        ``meta["schedule"]`` has the factor on lr of each step.

    Raises:
        UnknownNameError: The optimizer is unknown.
        InputError: A number is out of range, inputs and targets do not fit, the ``DataLoader`` or the schedule is of a
            kind that cannot be used (the message says why), or the module has frozen parameters or cannot be evaluated
            for several runs at once.
        NumericalError: A run diverges.
        UnreadableFileError: The checkpoint is broken or belongs to another call.
    """
    known("optimizer", optimizer, OPTIMIZERS)
    function("build", None if isinstance(build, nn.Module) else build, "a function that makes a module")
    function("loss", loss, "a function of (outputs, targets)")
    states = flag("states", states)
    if progress is not None:
        function("progress", progress, "a function of (step, steps)")
    lr = number("lr", lr, lambda rate: 0 < rate < math.inf, "a positive number")
    runs, steps, checkpoint_every = (whole(name, value, 1, MOST) for name, value in (
        ("runs", runs), ("steps", steps), ("checkpoint_every", checkpoint_every)))
    batch = None if batch is None else whole("batch", batch, 1)
    seed = whole("seed", seed, 0, MOST_SEED // _APART - 1)
    chosen = _options(optimizer, lr, options)
    wanted = _wanted(every, steps)
    checkpoint = None if checkpoint is None else writable("checkpoint", checkpoint)
    cls, _, names = OPTIMIZERS[optimizer]
    rates = None
    if schedule is not None:
        rates = rates_of(schedule, lambda tensors: cls(tensors, lr=lr, **chosen), steps)
    batches = _batches(inputs, targets, batch, runs, seed, per_run)
    modules = []
    for run in range(runs):
        with seeding(_APART * seed + run):
            modules.append(instance("What build returns", build(), nn.Module, "a torch.nn.Module"))
    weights, stacked = stack_module_state(modules)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in weights.items()}
    buffers = {name: value.detach().clone() for name, value in stacked.items()}
    method = cls(list(leaves.values()), lr=lr, **chosen)
    template = modules[0]
    layout = Layout.of(template)
    if len(layout.names) != len(leaves):
        raise InputError("A module with frozen or empty parameters cannot be recorded side by side.")

    def one(parameters: dict[str, Tensor], held: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, dict]:
        state = {**parameters, **held}
        value = loss(functional_call(template, state, (x,)), y)
        if not isinstance(value, Tensor) or value.ndim:
            raise InputError("loss must return a tensor with one number, the mean over the batch.")
        return value, {name: state[name] for name in held}  # the module may have changed or replaced them

    losses = vmap(one, randomness="different")
    device = next(iter(leaves.values())).device
    kept = [_flat(leaves, runs)]
    carried = {name: [as_array(buffers[name], name).copy()] for name in template.state_dict() if name in buffers}
    state: dict[str, list[np.ndarray]] = {name: [np.zeros_like(kept[0])] for name in names}
    first = 1
    if checkpoint is not None:
        call = {"optimizer": optimizer, "lr": lr, "runs": runs, "steps": steps, "batch": batches.size, "seed": seed,
                "wanted": wanted, "states": states, "options": sorted(chosen.items()), "rates": rates,
                "module": repr(template), "loss": getattr(loss, "__qualname__", type(loss).__name__)}
        mark = resume.fingerprint(call, {**batches.tensors(), **leaves, **buffers})
        found = resume.read(checkpoint, mark)
        if found is not None:
            first = found["step"] + 1
            with torch.no_grad():
                for name, leaf in leaves.items():
                    leaf.copy_(found["weights"][name])
            buffers = {name: value.to(device) for name, value in found["buffers"].items()}
            method.load_state_dict(found["optimizer"])
            batches.restore(found["batches"])
            kept = list(found["kept"].numpy())
            carried = {name: list(values.numpy()) for name, values in found["carried"].items()}
            state = {name: list(values.numpy()) for name, values in found["states"].items()}
    for step in range(first, steps + 1):
        x, y = batches.next()
        method.zero_grad()
        try:
            with drawing(seed, "step", step, device=device):
                value, buffers = losses(leaves, buffers, x, y)
            total = value.sum()
        except (RuntimeError, ValueError) as error:  # from torch: vmap cannot do it, or shapes do not fit
            raise InputError(f"Module and loss cannot be evaluated for runs side by side: {said(error)}.") from error
        if not torch.isfinite(total):
            raise NumericalError(f"Training diverged at step {step}; lower lr={lr}.")
        total.backward()
        buffers = {name: value.detach() for name, value in buffers.items()}
        if rates is not None:
            for group in method.param_groups:
                group["lr"] = rates[step - 1]
        method.step()
        if step in wanted:
            kept.append(_flat(leaves, runs))
            for name, values in carried.items():
                now = as_array(buffers[name], name)
                values.append(values[-1] if np.array_equal(now, values[-1]) else now.copy())
            if states:
                for ours, theirs in names.items():
                    moments = {n: method.state[leaf][theirs] for n, leaf in leaves.items()}
                    state[ours].append(_flat(moments, runs))
        if checkpoint is not None and step % checkpoint_every == 0 and step < steps:
            resume.write(checkpoint, mark, {
                "step": step,
                "weights": {name: leaf.detach() for name, leaf in leaves.items()},
                "buffers": buffers,
                "optimizer": method.state_dict(),
                "batches": batches.state(),
                "kept": torch.from_numpy(np.stack(kept)),
                "carried": {name: torch.from_numpy(np.stack(values)) for name, values in carried.items()},
                "states": {name: torch.from_numpy(np.stack(values)) for name, values in state.items()},
            })
        if progress is not None and step % 20 == 0:
            progress(step, steps)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    meta = {"optimizer": optimizer, "lr": lr, "options": chosen, "batch": batches.size, "seed": seed}
    if rates is not None:
        meta["schedule"] = [rate / lr for rate in rates]
    edges = edges_of(template)
    if edges is not None:
        meta["edges"] = edges
    return Trajectories(
        np.stack(kept, axis=1),
        np.array([0, *wanted]),
        None,
        meta,
        {name: np.stack(values, axis=1) for name, values in state.items()} if states else None,
        layout,
        {name: _over_time(values) for name, values in carried.items()},
    )


def _batches(
    inputs: Any, targets: Tensor | None, batch: int | None, runs: int, seed: int, per_run: bool | None
) -> Batches:
    if not isinstance(inputs, DataLoader):
        if targets is None:
            raise InputError("targets=None needs a DataLoader of pairs (inputs, targets) as inputs.")
        return FromTensors(inputs, targets, batch, runs, seed, per_run)
    if targets is not None or batch is not None or per_run:
        raise InputError("A DataLoader has its own targets and batches: give targets=None, no batch and no per_run.")
    return FromLoader(inputs, runs, seed)


def _wanted(every: int | Sequence[int], steps: int) -> tuple[int, ...]:
    """The steps after 0 whose states are kept."""
    if not isinstance(every, (Sequence, np.ndarray)):
        whole("every", every, 1)
        return tuple(range(int(every), steps + 1, int(every)))
    given = sorted(set(counts("every", every, 0)))
    if not given or given[-1] > steps or given[-1] < 1:
        raise InputError(f"every must be a whole number, or steps between 1 and {steps}.")
    return tuple(step for step in given if step > 0)


def _options(optimizer: str, lr: float, options: dict[str, Any]) -> dict[str, Any]:
    """The optimizer's usual options and the given ones, after a trial.

    Raises:
        InputError: The optimizer does not take one.
    """
    cls, defaults, _ = OPTIMIZERS[optimizer]
    usual = inspect.signature(cls).parameters
    for name, value in options.items():
        if name not in usual:
            known_ones = ", ".join(sorted(usual.keys() - {"params"}))
            raise InputError(f"{optimizer} has no option {name!r}; it has {known_ones}.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            number(name, value, math.isfinite, "a finite number")
        if isinstance(value, bool) and not isinstance(usual[name].default, (bool, type(None))):
            raise InputError(f"{name} must be a number, but it is {value!r}.")
    chosen = {**defaults, **options}
    try:
        cls([torch.zeros(1)], lr=lr, **chosen)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{optimizer} cannot be made with {chosen}: {said(error)}.") from error
    return chosen


def _flat(tensors: dict[str, Tensor], runs: int) -> np.ndarray:
    parts: Sequence[Tensor] = [value.detach().reshape(runs, -1) for value in tensors.values()]
    return torch.cat(list(parts), dim=1).cpu().numpy()


def _over_time(values: list[np.ndarray]) -> np.ndarray:
    """(runs, states, ...) from one array (runs, ...) per state; constant values take the memory of one state."""
    if all(value is values[0] for value in values):
        return np.broadcast_to(values[0][:, None], (len(values[0]), len(values), *values[0].shape[1:]))
    return np.stack(values, axis=1)
