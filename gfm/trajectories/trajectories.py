"""The container from which forecasters learn: runs x recorded states x weights."""

from collections.abc import Iterable, Mapping, Sequence
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfm.checks import whole
from gfm.errors import InputError
from gfm.trajectories import combined, storage
from gfm.trajectories.arrays import as_array, as_weights
from gfm.trajectories.layout import Layout, fitted, shapes_in
from gfm.trajectories.writing import save_checkpoint

__all__ = ["Trajectories"]


class Trajectories:
    """Recorded weights of several training runs of one kind.

    They are made from arrays by this class, from a folder of checkpoints by :meth:`from_checkpoints`, from a saved
    file by :meth:`load`, and from training by :func:`gfm.trajectories.record`.

    Args:
        weights: (runs, steps+1, parameters), floating point; a NumPy array or torch tensor (kept as a NumPy array of
            the same dtype, without a copy if possible; bfloat16 becomes float32). State 0 is the first recorded one.
        steps: (steps+1,) optimizer steps at which the states were recorded, increasing, kept as int64; by default
            0, 1, 2, ...
        groups: one label per parameter (for example the tensor to which it belongs); by default none.
        meta: anything that JSON can hold (optimizer, learning rate, task, ...).
        states: recorded optimizer state by name (``"momentum"``, ``"second"``), each of the weights' shape.
        layout: names and shapes of the tensors in the weight vector, so that states lead back into a module; it
            also gives the groups, if those are not given.
        buffers: what a module's state dict holds beside the weights, by name, each (runs, steps+1, ...): running
            statistics, counters, frozen parameters. They are never forecast.

    Raises:
        InputError: The shape or dtype is wrong, there are no runs or fewer than two states, values are not finite,
            or another argument does not fit the weights.

    Example:
        >>> data = Trajectories(np.zeros((6, 11, 4)))  # six runs of ten steps, four weights
        >>> data.runs, data.parameters, data.steps[-1].item()
        (6, 4, 10)
    """

    def __init__(
        self, weights: Any, steps: Sequence[int] | np.ndarray | None = None, groups: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None, states: Mapping[str, Any] | None = None, layout: Layout | None = None,
        buffers: Mapping[str, Any] | None = None,
    ) -> None:
        self.weights = as_weights(weights)
        count, parameters = self.weights.shape[1:]
        given = np.arange(count) if steps is None else as_array(steps, "steps")
        if given.shape != (count,) or given.dtype.kind not in "iu" or (given > np.iinfo(np.int64).max).any():
            raise InputError(
                f"steps must be {count} whole numbers below 2**63, one per recorded state; "
                f"got shape {given.shape} of {given.dtype}."
            )
        self.steps = given.astype(np.int64)
        if (self.steps[1:] <= self.steps[:-1]).any():
            raise InputError("steps must increase from one recorded state to the next.")
        for name, value, kind in (("meta", meta, "a mapping"), ("states", states, "a mapping by name"),
                                  ("buffers", buffers, "a mapping by name"),
                                  ("groups", groups, "one label per parameter")):
            wanted = Iterable if name == "groups" else Mapping
            if value is not None and (not isinstance(value, wanted) or hasattr(value, "detach")):
                raise InputError(f"{name} must be {kind}, not {type(value).__name__}.")
            if isinstance(value, Mapping) and not all(isinstance(key, str) for key in value):
                raise InputError(f"{name} must have names (texts) as keys, but they are {list(value)}.")
        if layout is not None:
            if not isinstance(layout, Layout):
                raise InputError(f"layout must be a Layout, not {type(layout).__name__}: Layout.of(module), say.")
            if sum(layout.sizes) != parameters:
                raise InputError(f"The layout has {sum(layout.sizes)} weights, the trajectories {parameters}.")
            groups = layout.groups if groups is None else groups
        self.layout = layout
        self.groups = None if groups is None else tuple(str(name) for name in groups)
        if self.groups is not None and len(self.groups) != parameters:
            raise InputError(f"groups has {len(self.groups)} labels for {parameters} parameters.")
        self.meta = dict(meta or {})
        self.states = {name: as_weights(value) for name, value in (states or {}).items()}
        for name, state in self.states.items():
            if state.shape != self.weights.shape:
                raise InputError(
                    f"states[{name!r}] has shape {state.shape}, the weights {self.weights.shape}."
                )
        self.buffers = {name: as_array(value, f"buffers[{name!r}]") for name, value in (buffers or {}).items()}
        for name, buffer in self.buffers.items():
            if buffer.shape[:2] != self.weights.shape[:2] or buffer.dtype.kind not in "fiub":
                raise InputError(
                    f"buffers[{name!r}] has shape {buffer.shape} and dtype {buffer.dtype}; numbers of shape "
                    f"{(*self.weights.shape[:2], '...')} are needed."
                )

    # -- what it holds ---------------------------------------------------------------------------
    @property
    def runs(self) -> int:
        """Number of runs."""
        return self.weights.shape[0]

    @property
    def parameters(self) -> int:
        """Number of weights in one state."""
        return self.weights.shape[2]

    @property
    def final(self) -> np.ndarray:
        """(runs, parameters) the last recorded state."""
        return self.weights[:, -1]

    def __len__(self) -> int:
        return self.runs

    def __repr__(self) -> str:
        runs, states, parameters = self.weights.shape
        return (
            f"Trajectories(runs={runs}, states={states}, parameters={parameters}, "
            f"steps={self.steps[0]}..{self.steps[-1]}, dtype={self.weights.dtype})"
        )

    # -- parts of it -----------------------------------------------------------------------------
    def __getitem__(self, runs: slice | Sequence[int] | np.ndarray) -> "Trajectories":
        """The chosen runs, with everything else kept.

        Args:
            runs: a slice, or a list or array (m,) of run numbers.

        Raises:
            InputError: ``runs`` is something else, or names a run that is not there.
        """
        if isinstance(runs, (bool, np.bool_)):
            raise InputError("Runs are chosen by a slice or by a list of whole numbers.")
        if isinstance(runs, (int, np.integer)):
            runs = [int(runs)]
        elif not isinstance(runs, slice):
            runs = as_array(runs, "The runs")
            if runs.ndim != 1 or not (runs.dtype == bool and runs.shape == (self.runs,) or runs.dtype.kind in "iu"):
                raise InputError("Runs are chosen by a slice or by a list of whole numbers.")
        if not isinstance(runs, slice) and np.asarray(runs).dtype != bool:
            wrong = [int(run) for run in runs if not -self.runs <= run < self.runs]
            if wrong:
                raise InputError(f"There is no run {wrong[0]}: there are {self.runs}, counted from 0.")
        return self._part(runs, slice(None))

    def split(self, *sizes: int) -> "tuple[Trajectories, ...]":
        """Consecutive parts by run, for example ``train, val, test = data.split(100, 50, 50)``.

        No run is divided; runs beyond the sum of the sizes are left out.

        Raises:
            InputError: The sizes are not positive, or ask for more runs than there are.

        Example:
            >>> train, test = Trajectories(np.zeros((6, 11, 4))).split(4, 2)
            >>> train.runs, test.runs
            (4, 2)
        """
        for size in sizes:
            whole("A size of split", size, 1)
        if not sizes or sum(sizes) > self.runs:
            raise InputError(f"sizes {sizes} must be positive and sum to at most {self.runs} runs.")
        ends = np.cumsum(sizes)
        return tuple(self[end - size : end] for size, end in zip(sizes, ends, strict=True))

    def prefix(self, n: int) -> "Trajectories":
        """The first n+1 states (states 0..n): what a forecaster may see.

        Raises:
            InputError: ``n`` is not a whole number from 1 to one less than the number of states.
        """
        if whole("n of prefix", n, 1) >= self.weights.shape[1]:
            raise InputError(f"prefix({n}): n must be between 1 and {self.weights.shape[1] - 1}.")
        return self._part(slice(None), slice(n + 1))

    def every(self, stride: int) -> "Trajectories":
        """States 0, stride, 2 stride, ...; their steps are kept.

        Raises:
            InputError: Fewer than two states would be left, or the stride is not a whole number of at least 1.
        """
        if whole("stride", stride, 1) >= self.weights.shape[1]:
            raise InputError(f"every({stride}): stride must be 1 to {self.weights.shape[1] - 1}.")
        return self._part(slice(None), slice(None, None, stride))

    def without_states(self) -> "Trajectories":
        """The same without the optimizer's states."""
        return self.replaced(states=None)

    def replaced(self, **changes: Any) -> "Trajectories":
        """The same with other values for some of the class's arguments."""
        return Trajectories(**{**vars(self), **changes})

    def _part(self, runs: Any, states: Any) -> "Trajectories":
        return self.replaced(
            weights=self.weights[runs][:, states],
            steps=self.steps[states],
            states={name: value[runs][:, states] for name, value in self.states.items()},
            buffers={name: value[runs][:, states] for name, value in self.buffers.items()},
        )

    # -- other trajectories from it --------------------------------------------------------------
    @property
    def stride(self) -> int:
        """The number of optimizer steps from one recorded state to the next.

        Raises:
            InputError: The number differs between states.
        """
        distances = np.unique(np.diff(self.steps)).tolist()
        if len(distances) > 1:
            raise InputError(
                f"The states were recorded at uneven distances ({', '.join(map(str, distances[:5]))} steps): resample "
                f"them first (resampled(stride), or --resample), for example with the stride {gcd(*distances)}."
            )
        return distances[0]

    concat = classmethod(combined.concat)
    continued = combined.continued
    resampled = combined.resampled
    select_weights = combined.select_weights

    # -- back into a module ----------------------------------------------------------------------
    def state_dict(self, run: int = 0, step: int | None = None) -> dict[str, torch.Tensor]:
        """One state by the names of the module or file it comes from, for ``module.load_state_dict``.

        Args:
            run: number of the run.
            step: optimizer step, one of ``steps``; by default the last.

        Returns:
            New tensors: the weights in their shapes, the buffers of that state, and tied tensors under all names.

        Raises:
            InputError: There is no such run or step, or the trajectories have no layout.
        """
        if self.layout is None:
            raise InputError("These trajectories know no names and shapes: give them layout=Layout.of(module).")
        if whole("run", run, 0) >= self.runs:
            raise InputError(f"There is no run {run}: there are {self.runs}, counted from 0.")
        wanted = int(self.steps[-1]) if step is None else whole("step", step, int(self.steps[0]))
        at = np.flatnonzero(self.steps == wanted)
        if not len(at):
            near = self.steps[np.abs(self.steps - wanted).argmin()]
            raise InputError(f"No state of step {step} was recorded; the nearest is that of step {near}.")
        parts = np.split(self.weights[run, at[0]], np.cumsum(self.layout.sizes)[:-1])
        arrays = {name: part.reshape(shape)
                  for name, shape, part in zip(self.layout.names, self.layout.shapes, parts, strict=True)}
        arrays |= {name: values[run, at[0]] for name, values in self.buffers.items()}
        state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        return state | {name: state[first] for name, first in self.layout.tied.items() if first in state}

    def load_into(self, module: torch.nn.Module, run: int = 0, step: int | None = None) -> None:
        """Write one state into ``module``, in place: its parameters, and its buffers as in that state.

        Names may differ in prefixes of wrappers (``module.``, ``_orig_mod.``).

        Args:
            module: receives the state; it remains unchanged if the state does not fit.
            run: number of the run.
            step: optimizer step, one of ``steps``; by default the last.

        Raises:
            InputError: There is no such state, its tensors differ from the module's in name or shape, or the module
                is on the device "meta", where it has no values.
        """
        state, layout = self.state_dict(run, step), Layout.of(module)
        state = fitted(state, shapes_in(module, layout), layout.tied, "the trajectory", "the module")
        own = module.state_dict().values()
        if any(value.is_meta for value in own):
            raise InputError("The module is on the device 'meta': call module.to_empty(device=...) first.")
        with torch.inference_mode(any(value.is_inference() for value in own)):
            module.load_state_dict(state | {name: state[first] for name, first in layout.tied.items()})

    # -- on disk ---------------------------------------------------------------------------------
    save = storage.save
    load = classmethod(storage.load)
    save_checkpoint = save_checkpoint

    @classmethod
    def from_checkpoints(cls, folder: str | Path, pattern: str = "*", **options: Any) -> "Trajectories":
        """One run from the checkpoints in ``folder``; see :func:`gfm.trajectories.read_checkpoints`."""
        from gfm.trajectories.checkpoints import read_checkpoints

        return read_checkpoints(folder, pattern, **options)
