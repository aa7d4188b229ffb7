"""Gradient training and the stopping rule that all learned forecasters share."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gfm.checks import MOST_SEED, instance, number, one_of, whole
from gfm.errors import InputError, NumericalError, said
from gfm.forecasting.report import FitReport

__all__ = ["SCHEDULES", "Training", "train_module", "training_or", "usable"]

SCHEDULES = ("constant", "one-cycle", "plateau")
FALL = 0.3
"""Factor on the learning rate at a plateau."""


@dataclass(frozen=True)
class Training:
    """How a module is trained.

    Args:
        rate: AdamW's learning rate.
        batch: items per step.
        epochs: maximum number of passes over the items.
        patience: passes without a better validation loss before stopping; the best state is restored.
        seed: of the initial weights and the order of items.
        decay: AdamW's weight decay.
        schedule: ``"constant"``; ``"one-cycle"``: the learning rate rises to ``rate`` over three tenths of the
            epochs and then falls to almost zero, so that a short training achieves as much as a long one at a constant
            rate; or ``"plateau"``: it falls to three tenths whenever a third of the patience has passed without a
            better validation loss, so that training goes on as long as it helps.

    Raises:
        InputError: A number is out of range, or the schedule is unknown.
    """

    rate: float = 1e-3
    batch: int = 32
    epochs: int = 2000
    patience: int = 50
    seed: int = 0
    decay: float = 0.0
    schedule: str = "constant"

    def __post_init__(self) -> None:
        number("rate", self.rate, lambda rate: 0 < rate < math.inf, "a positive number")
        number("decay", self.decay, lambda decay: 0 <= decay < math.inf, "a number of at least 0")
        for name in ("batch", "epochs", "patience"):
            whole(name, getattr(self, name), 1)
        whole("seed", self.seed, 0, MOST_SEED)
        one_of("schedule", self.schedule, SCHEDULES)


def training_or(training: Training | None, usual: Training) -> Training:
    """``training``, or ``usual`` if it is None.

    Raises:
        InputError: ``training`` is neither a Training nor None.
    """
    return usual if training is None else instance("training", training, Training, "a Training(...)")


def train_module(
    module: nn.Module, loss: Callable[[torch.Tensor, torch.Generator], torch.Tensor], items: int,
    validate: Callable[[], float], training: Training, report: FitReport, first: bool = False,
) -> None:
    """Minimise ``loss(indices, generator)`` over ``items`` items; keep the state with the best validation loss.

    Args:
        module: trained in place, on ``report.device``; it ends on the CPU.
        loss: mean loss of the items with the given indices; it draws random numbers only from the generator. Indices
            and generator are on the CPU, so that every device trains with the same draws.
        items: number of training items.
        validate: the validation loss, computed without gradients.
        training: how to train.
        report: its curve, epochs and parameters are filled in.
        first: whether the module's state before training counts as a candidate for the best.

    Raises:
        NumericalError: The loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(training.seed)
    module.to(report.device)
    optimizer = torch.optim.AdamW(module.parameters(), training.rate, weight_decay=training.decay, fused=True)
    steps = training.epochs * math.ceil(items / training.batch)
    cycle = None
    if training.schedule == "one-cycle" and steps > 3:  # fewer steps have no room for a cycle
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.rate, steps, cycle_momentum=False)
    plateau = None
    if training.schedule == "plateau":
        wait = max(training.patience // 3, 1) - 1
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=FALL, patience=wait, threshold=0.0)
    best, best_state, best_epoch = float("inf"), copy.deepcopy(module.state_dict()), 0
    if first:
        with torch.no_grad():
            best = validate()
    for epoch in range(1, training.epochs + 1):
        module.train()
        total = 0.0
        for indices in torch.randperm(items, generator=generator).split(training.batch):
            optimizer.zero_grad()
            value = loss(indices, generator)
            value.backward()
            optimizer.step()
            if cycle is not None:
                cycle.step()
            total += value.item() * len(indices)
        module.eval()
        with torch.no_grad():
            score = validate()
        if not math.isfinite(total) or math.isnan(score):
            raise NumericalError(f"The training loss left the finite numbers in epoch {epoch}; lower the rate.")
        if plateau is not None:
            plateau.step(score)
        report.train.append(total / items)
        report.validation.append(score)
        if score < best:
            best, best_epoch = score, epoch
            best_state = copy.deepcopy(module.state_dict())
        elif epoch - best_epoch >= training.patience:
            break
    module.load_state_dict(best_state)
    module.to("cpu")
    report.epochs, report.best_epoch = epoch, best_epoch
    report.parameters += sum(p.numel() for p in module.parameters())


def usable(device: str | torch.device | None) -> torch.device:
    """The device, the CPU for None, if networks can be trained there.

    Raises:
        InputError: It is neither the CPU nor a CUDA device, or is not available here.
    """
    try:
        where = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        where = None
    if where is None or where.type not in ("cpu", "cuda"):
        raise InputError(f"device must be 'cpu' or 'cuda', or one of several as in 'cuda:1', but it is {device!r}.")
    try:
        torch.zeros(1, device=where)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        raise InputError(f"The device {str(where)!r} is not available here: {said(error)}.") from error
    return where
