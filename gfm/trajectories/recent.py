"""The last states of a training run that is going on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gfm.checks import whole
from gfm.errors import InputError
from gfm.problem.flat import trainable
from gfm.trajectories.layout import Layout
from gfm.trajectories.record import OPTIMIZERS
from gfm.trajectories.trajectories import Trajectories

__all__ = ["STEP", "Recent"]

STEP = "optimizer.step"
"""Buffer with the optimizer's own step count, (runs, states), for runs that do not begin at its first step."""


_SETTINGS = ("momentum", "alpha", "betas", "eps", "weight_decay")
_MEMORIES = ("momentum", "alpha", "betas")
_VARIANTS = ("amsgrad", "nesterov", "centered", "dampening", "maximize")
"""Options of torch's optimizers that change the rule in a way that the recorded averages do not show."""


class Recent:
    """The last ``seen`` + 1 recorded states of a run, with the optimizer's averages.

    Args:
        optimizer: of any kind; its averages are recorded for those of ``gfm.trajectories.OPTIMIZERS``, if all its
            parameter groups follow the same rule.
        model: the module; the weights are its trainable parameters.
        seen: number of states after the first.
        every: optimizer steps between recorded states.

    Attributes:
        states: the recorded states, oldest first: name -> array.
        parameters: the model's trainable parameters.
        layout: of the weights (p,).

    Raises:
        InputError: A number is below 1, or weights are complex.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: nn.Module, seen: int, every: int) -> None:
        self.optimizer, self.layout = optimizer, Layout.of(model)
        self.seen, self.every = whole("seen", seen, 1), whole("every", every, 1)
        self.parameters = [parameter for _, parameter in trainable(model)]
        if any(parameter.is_complex() for parameter in self.parameters):
            raise InputError("The model has complex weights; only real ones are recorded.")
        self.kind, self.names = _kind(optimizer)
        self.states: list[dict[str, np.ndarray]] = []

    @property
    def full(self) -> bool:
        """Whether there are enough states for a window."""
        return len(self.states) > self.seen

    def record(self, step: int) -> None:
        """Add the present state; ``step`` counts the optimizer's steps if the optimizer itself does not."""
        self.states = [*self.states[-self.seen :], self._state(step)]

    def restart(self, step: int) -> None:
        """Begin anew with the present state."""
        self.states = [self._state(step)]

    def window(self) -> Trajectories:
        """The states as one run, with the optimizer's averages and learning rate.

        Raises:
            InputError: Fewer than ``seen`` + 1 states were recorded.
        """
        if not self.full:
            raise InputError(f"A window has {self.seen + 1} states; {len(self.states)} were recorded so far.")
        states = self.states[-self.seen - 1 :]
        values = {name: np.stack([state[name] for state in states])[None] for name in states[0]}
        rates = {float(group["lr"]) for group in self.optimizer.param_groups}
        meta: dict[str, Any] = {"optimizer": self.kind}
        if len(rates) == 1:  # if there are several, none holds for all weights
            meta["lr"] = rates.pop()
        groups = self.optimizer.param_groups
        meta["options"] = {name: groups[0][name] for name in _SETTINGS
                           if name in groups[0] and all(group.get(name) == groups[0][name] for group in groups)}
        return Trajectories(
            values.pop("weights"),
            np.arange(self.seen + 1) * self.every,
            meta=meta,
            states={name: values[name] for name in self.names} or None,
            layout=self.layout,
            buffers={STEP: values["step"]},
        )

    def state_dict(self) -> dict[str, Any]:
        """The recorded states as tensors, with the names and shapes of the model's weights."""
        states = [{name: torch.from_numpy(np.array(value)) for name, value in state.items()} for state in self.states]
        return {"shapes": self._shapes(), "states": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`.

        Raises:
            InputError: It is of another model or optimizer, or is no such state.
        """
        try:
            shapes = {name: tuple(shape) for name, shape in state["shapes"].items()}
            recorded = [{name: tensor.detach().cpu().numpy().copy() for name, tensor in one.items()}
                        for one in state["states"]]
        except (TypeError, AttributeError, KeyError):
            raise InputError("These are not the recorded states of a training run.") from None
        own = {name: value.shape for name, value in self._state(0).items()}
        if shapes != self._shapes() or any({n: v.shape for n, v in one.items()} != own for one in recorded):
            raise InputError("This state belongs to another model or optimizer.")
        self.states = recorded

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(zip(self.layout.names, self.layout.shapes, strict=True))

    def _state(self, step: int) -> dict[str, np.ndarray]:
        """Weights and averages, each (p,), and the optimizer's count of steps."""
        kept = self.optimizer.state
        state = {"weights": _flat(self.parameters)}
        for ours, theirs in self.names.items():
            values = [kept[q].get(theirs) if q in kept else None for q in self.parameters]
            state[ours] = _flat([torch.zeros_like(q) if v is None else v
                                 for q, v in zip(self.parameters, values, strict=True)])
        counts = [int(kept[q]["step"]) for q in self.parameters if q in kept and "step" in kept[q]]
        state["step"] = np.asarray(max(counts, default=step))
        return state


def _flat(tensors: Sequence[Tensor]) -> np.ndarray:
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).cpu()
    return (flat if flat.dtype in (torch.float32, torch.float64) else flat.float()).numpy()  # NumPy has no bfloat16


def _kind(optimizer: torch.optim.Optimizer) -> tuple[str, dict[str, str]]:
    """The optimizer's name, and the names of its averages: ours -> torch's; none if the rule is not a known one."""
    groups = optimizer.param_groups
    others = [name for name in _VARIANTS if any(group.get(name) for group in groups)]
    uneven = [name for name in _MEMORIES if any(group.get(name) != groups[0].get(name) for group in groups)]
    momentum = bool(groups[0].get("momentum"))
    for name, (cls, options, names) in OPTIMIZERS.items():
        if type(optimizer) is cls and ("momentum" in options) == momentum and not others and not uneven:
            return name, dict(names)
    told = [*others, *(f"different {name}" for name in uneven)] or ["momentum"] * momentum
    return type(optimizer).__name__ + (f" with {' and '.join(told)}" if told else ""), {}
