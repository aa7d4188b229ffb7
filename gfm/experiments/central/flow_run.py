"""One training problem, its optimizer and its flows in lockstep: the experiment behind most elements."""

import inspect
import time
import warnings
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from gfm import central, nets, optimizers
from gfm import data as datasets
from gfm.checks import known, whole
from gfm.data import Dataset
from gfm.errors import InputError, UnreadableFileError, said
from gfm.optimizers import schedules
from gfm.problem import Problem
from gfm.store.experiment import Context, Experiment, Obtain, Result

__all__ = ["FlowRun", "flow_run", "noted_run", "run_of"]

#: Seconds between checkpoints, about the most that a killed run loses.
CHECKPOINT_SECONDS = 20.0

#: Parameters that are not part of the key at these values, because older results did not have them.
_LATER = {
    "schedule": "constant", "noise": 0.0,
    **{name: getattr(central.Settings(), name)
       for name in ("refresh_substeps", "dense", "band", "discrete_tolerance", "max_effective")},
}


@dataclass(frozen=True)
class FlowRun(Experiment):
    """Parameters of a lockstep run: those of ``gfm.data.load``, ``gfm.nets.build`` and ``gfm.central.run``.

    Options that the data set or the optimizer lacks (such as classes for sorting, or beta2 for gradient
    descent) are ignored.

    Args:
        noise: share of the labels that are shuffled; refused by data sets that cannot do that.
        hidden: widths of an MLP's hidden layers, replacing those of ``size``.
        length: length of the sequences in the sorting task (0: the task's default).
        schedule: learning-rate schedule with peak ``lr``; see ``gfm.optimizers.schedules``.
            Its steps count from the start of the warm-up.
        settings: how the flows are computed.
        outputs: number of test examples on which the network's outputs are recorded.

    Raises:
        InputError: A value is impossible; raised when the value is first needed.
        UnknownNameError: A name is unknown; raised when it is first needed.
    """

    name: ClassVar[str] = "flow-run"

    data: str = "digits"
    n: int = 500
    classes: int = 10
    targets: str = "parity"
    noise: float = 0.0
    length: int = 0
    net: str = "mlp"
    size: str = "book"
    hidden: tuple[int, ...] = ()
    activation: str = ""
    loss: str = "mse"
    optimizer: str = "gd"
    lr: float = 0.1
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 0.0
    bias_correction: bool = False
    schedule: str = "constant"
    steps: int = 200
    warmup: int = 0
    processes: tuple[str, ...] = ("discrete", "stable", "central")
    settings: central.Settings = central.Settings()
    outputs: int = 0
    keep_weights: int = 0
    dtype: str = "float64"
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        whole("outputs", self.outputs, 0)
        schedules.named(self.schedule, 1.0, 1)

    @classmethod
    def from_parameters(cls, **parameters: Any) -> Self:
        """The run with these parameters, including the fields of its settings; the inverse of ``parameters``.

        Lists become tuples.

        Raises:
            InputError: A parameter is unknown, or a setting is out of range.
        """
        own, flow = ({f.name for f in fields(kind)} - {"settings"} for kind in (cls, central.Settings))
        for name in parameters:
            if name not in own | flow:
                raise InputError(f"A run has no parameter {name!r}; it has {', '.join(sorted(own | flow))}.")
        parameters = {name: tuple(value) if isinstance(value, list) else value for name, value in parameters.items()}
        settings = central.Settings(**{name: parameters.pop(name) for name in flow & parameters.keys()})
        return cls(**parameters, settings=settings)

    def parameters(self) -> dict[str, Any]:
        """All fields, with those of the settings, as one plain dict; later additions only if not at their default."""
        values = super().parameters()
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @cached_property
    def dataset(self) -> Dataset:
        """The data set named, in the experiment's dtype.

        Raises:
            InputError: A value is impossible, or ``noise`` is given for a data set that has none.
            UnknownNameError: There is no such data set.
        """
        options = {
            "n": self.n, "classes": self.classes, "targets": self.targets, "noise": self.noise,
            "dtype": self.torch_dtype,
        }
        if self.length:
            options["length"] = self.length
        taken = inspect.signature(datasets.available().get(self.data, datasets.load)).parameters
        if self.noise and "noise" not in taken:
            raise InputError(f"The data set {self.data!r} has no noise among its labels; leave noise at 0.")
        return datasets.load(self.data, **{k: v for k, v in options.items() if k in taken})

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype named.

        Raises:
            UnknownNameError: The name is neither float32 nor float64.
        """
        known("dtype", self.dtype, ("float32", "float64"))
        return getattr(torch, self.dtype)

    def data_fingerprint(self) -> str:
        """The data set's own digest."""
        return self.dataset.fingerprint

    def problem(self, context: Context) -> Problem:
        """The training problem with the network's initial weights, on the context's device."""
        options: dict[str, Any] = {"hidden": tuple(self.hidden)} if self.hidden else {}
        module = nets.build(
            self.net, self.dataset, size=self.size, activation=self.activation or None,
            dtype=self.torch_dtype, seed=self.seed, **options,
        )
        where = context.device(self.torch_dtype)  # the weights are drawn on the processor, the same for every device
        return Problem(module.to(where), self.dataset.inputs.to(where), self.dataset.targets.to(where), self.loss,
                       batch_size=self.batch_size)

    def rule(self) -> optimizers.Optimizer:
        """The optimizer, with those of the run's options that it has."""
        rules: dict[str, Any] = optimizers.available()
        known("optimizer", self.optimizer, rules)
        kind = rules[self.optimizer]
        names = {f.name for f in fields(kind)} & {f.name for f in fields(FlowRun)} - {"lr"}
        lr = schedules.named(self.schedule, self.lr, self.warmup + self.steps)
        return kind(lr=lr, **{name: getattr(self, name) for name in names})

    def compute(self, context: Context) -> Result:
        """Run the processes in lockstep; the arrays of ``central.Run``, and ``seconds`` in the info.

        If a killed run has left a checkpoint, the run resumes from it.
        """
        started, file, problem = time.perf_counter(), context.checkpoint, self.problem(context)
        rule, w0, spent = self._start(problem)
        run = partial(
            central.run, problem, rule, self.steps, processes=self.processes, settings=self.settings,
            warmup=self.warmup, w0=w0, seed=self.seed, observables=self.observables(problem),
            keep_weights=self.keep_weights, progress=context.progress,
            checkpoint=file, checkpoint_every=1, checkpoint_seconds=CHECKPOINT_SECONDS,
        )
        try:
            found = run()
        except UnreadableFileError as failure:
            if file is None or not file.exists():
                raise
            warnings.warn(f"{said(failure)} (it is removed here, and the run starts anew)", stacklevel=2)
            file.unlink()
            found = run()
        found.costs |= spent
        arrays, info = found.to_arrays()
        return Result(arrays, info | {"seconds": time.perf_counter() - started})

    def _start(self, problem: Problem) -> tuple[optimizers.Optimizer, Tensor | None, dict[str, dict[str, float]]]:
        """The optimizer, the initial weights (None: the module's own), and the costs of reaching them, by name."""
        return self.rule(), None, {}

    def observables(self, problem: Problem) -> dict[str, Any]:
        """Functions of the weights that the run records, by name.

        Raises:
            InputError: Outputs are to be recorded, but the data set has no test inputs.
        """
        if not self.outputs:
            return {}
        test = self.dataset.test_inputs
        if test is None:
            raise InputError(f"outputs needs test inputs, but the data set {self.data!r} has none.")
        return {"outputs": partial(problem.outputs, inputs=test[: self.outputs].to(problem.device))}


def noted_run(obtain: Obtain, **parameters: Any) -> central.Run:
    """Like ``flow_run``, but without warnings, as for a stored run; the run's notes contain them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flow_run(obtain, **parameters)


def flow_run(obtain: Obtain, **parameters: Any) -> central.Run:
    """The run with these parameters, from ``obtain`` (a notebook's ``element.obtain``)."""
    return obtain(FlowRun.from_parameters(**parameters)).read(run_of)


def run_of(result: Result) -> central.Run:
    """The run that a result holds."""
    return central.Run.from_arrays(result.arrays, result.info)
