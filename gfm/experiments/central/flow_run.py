"""One training problem, its optimizer and its flows in lockstep: the experiment behind most elements."""

from __future__ import annotations

import inspect
import time
import warnings
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from gfm import central, nets, optimizers
from gfm import data as datasets
from gfm.checks import whole
from gfm.data import Dataset
from gfm.errors import InputError, UnknownNameError, UnreadableFileError
from gfm.optimizers import schedules
from gfm.problem import Problem
from gfm.store.experiment import Context, Experiment, Obtain, Result

__all__ = ["FlowRun", "flow_run"]

#: A run that was killed goes on from a checkpoint that is at most about so old.
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class FlowRun(Experiment):
    """Parameters of a lockstep run; those of ``gfm.data.load``, ``gfm.nets.build`` and ``gfm.central.run``.

    hidden: widths of an MLP's hidden layers, over those of ``size``. length: of the sequences of the
    sorting task (0: its own default). outputs: on so many test examples the network's outputs are
    recorded. schedule: of the learning rate, whose largest is ``lr``; see ``gfm.optimizers.schedules``
    (steps count from the start of the warm-up). Options that the data set or the optimizer does not have
    (classes for sorting, beta2 for gradient descent, say) are not used.

    Raises:
        InputError, UnknownNameError: values that no run can have, as soon as they are needed.
    """

    name: ClassVar[str] = "flow-run"

    data: str = "digits"
    n: int = 500
    classes: int = 10
    targets: str = "parity"
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
    steps: int = 200
    substeps: int = 4
    warmup: int = 0
    processes: tuple[str, ...] = ("discrete", "stable", "central")
    curvature_penalty: bool = True
    eigen_every: int = 1
    track: int = 1
    cap: int = 12
    tolerance: float | None = None
    critical_share: float = 0.975
    adaptive: bool = True
    coordinates: int = 0
    outputs: int = 0
    keep_weights: int = 0
    dtype: str = "float64"
    seed: int = 0
    batch_size: int | None = None
    schedule: str = "constant"

    def __post_init__(self) -> None:
        whole("outputs", self.outputs, 0)
        schedules.named(self.schedule, 1.0, 1)

    def parameters(self) -> dict[str, Any]:
        """The fields as a plain dict, without the schedule where it is constant.

        Results from before there were other schedules do not name one either.
        """
        values = super().parameters()
        if self.schedule == "constant":
            del values["schedule"]
        return values

    @cached_property
    def dataset(self) -> Dataset:
        """The data set named, in the experiment's dtype."""
        options = {"n": self.n, "classes": self.classes, "targets": self.targets, "dtype": self.torch_dtype}
        if self.length:
            options["length"] = self.length
        known = inspect.signature(datasets.available().get(self.data, datasets.load)).parameters
        return datasets.load(self.data, **{k: v for k, v in options.items() if k in known})

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype named.

        Raises:
            UnknownNameError: a name other than float32 and float64.
        """
        if self.dtype not in ("float32", "float64"):
            raise UnknownNameError(f"dtype must be float32 or float64, but it is {self.dtype!r}")
        return getattr(torch, self.dtype)

    def data_fingerprint(self) -> str:
        """The data set's own digest."""
        return self.dataset.fingerprint

    def problem(self) -> Problem:
        """The training problem at its start."""
        options: dict[str, Any] = {"hidden": tuple(self.hidden)} if self.hidden else {}
        module = nets.build(
            self.net, self.dataset, size=self.size, activation=self.activation or None,
            dtype=self.torch_dtype, seed=self.seed, **options,
        )
        return Problem(module, self.dataset.inputs, self.dataset.targets, self.loss, batch_size=self.batch_size)

    def rule(self) -> optimizers.Optimizer:
        """The optimizer with those of its options that it has."""
        known = optimizers.available()
        if self.optimizer not in known:
            raise UnknownNameError(f"unknown optimizer {self.optimizer!r}; choose one of {', '.join(known)}")
        kind: Any = known[self.optimizer]
        names = {f.name for f in fields(kind)} & {f.name for f in fields(FlowRun)} - {"lr"}
        lr = schedules.named(self.schedule, self.lr, self.warmup + self.steps)
        return kind(lr=lr, **{name: getattr(self, name) for name in names})

    def compute(self, context: Context) -> Result:
        """Run the processes in lockstep; the arrays of ``central.Run``, and ``seconds`` in the info."""
        started = time.perf_counter()
        run = self._run(self.problem(), self.rule(), None, context)
        arrays, info = run.to_arrays()
        info["seconds"] = time.perf_counter() - started
        return Result(arrays, info)

    def _run(
        self, problem: Problem, rule: optimizers.Optimizer, w0: Tensor | None, context: Context
    ) -> central.Run:
        """The lockstep run with these parameters; from its checkpoint, where a killed one has left it."""
        file = context.checkpoint
        arguments: dict[str, Any] = {
            "processes": self.processes, "substeps": self.substeps, "warmup": self.warmup, "w0": w0,
            "seed": self.seed, "observables": self._observables(problem), "keep_weights": self.keep_weights,
            "progress": context.progress, "curvature_penalty": self.curvature_penalty, "eigen_every": self.eigen_every,
            "track": self.track, "cap": self.cap, "tolerance": self.tolerance,
            "critical_share": self.critical_share, "adaptive": self.adaptive, "coordinates": self.coordinates,
            "checkpoint": file, "checkpoint_every": 1, "checkpoint_seconds": CHECKPOINT_SECONDS,
        }
        try:
            return central.run(problem, rule, self.steps, **arguments)
        except UnreadableFileError as failure:
            if file is None or not file.exists():
                raise
            warnings.warn(f"{failure} (it is removed here, and the run starts anew)", stacklevel=2)
            file.unlink()
            return central.run(problem, rule, self.steps, **arguments)

    def _observables(self, problem: Problem) -> dict:
        if not self.outputs:
            return {}
        test = self.dataset.test_inputs
        if test is None:
            raise InputError(f"outputs needs test inputs, but the data set {self.data!r} has none")
        inputs = test[: self.outputs]

        def outputs(w: Tensor) -> Tensor:
            return problem.outputs(w, inputs)

        return {"outputs": outputs}


def flow_run(obtain: Obtain, **parameters) -> central.Run:
    """The run with these parameters, come by with ``obtain`` (a notebook's ``element.obtain``)."""
    result = obtain(FlowRun(**parameters))
    return central.Run.from_arrays(result.arrays, result.info)
