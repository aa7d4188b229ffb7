"""Where experiments compute, and that everything runs on another device than the processor."""

import ast
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

from gfm.cli import app, join_parameters
from gfm.device import VARIABLE, device_for
from gfm.errors import InputError
from gfm.store import Experiment, Result, obtain

TESTS = Path(__file__).parent


def test_runs_derivatives_and_fits_on_a_pretended_accelerator():
    """Bit for bit as on the processor, and no tensor is made on the wrong device; see on_accelerator.py."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(TESTS / "on_accelerator.py")]
    ended = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert ended.returncode == 0 and " passed" in ended.stdout, ended.stdout[-5000:]


@pytest.mark.parametrize("asked", [None, "", "auto", "cpu"])
def test_without_an_accelerator_it_is_the_processor(monkeypatch, asked):
    monkeypatch.delenv(VARIABLE, raising=False)
    if asked is not None:
        monkeypatch.setenv(VARIABLE, asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    assert device_for() == device_for(torch.float32) == torch.device("cpu")


def test_auto_takes_an_apple_gpu_in_single_precision_only(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: True)
    assert device_for() == torch.device("cpu") and device_for(torch.float32) == torch.device("mps")
    monkeypatch.setenv(VARIABLE, "mps")
    with pytest.raises(InputError, match="single precision"):
        device_for(torch.float64)


def test_cuda_comes_first_and_keeps_full_precision(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert device_for() == torch.device("cuda") and not torch.backends.cudnn.allow_tf32
    monkeypatch.setenv(VARIABLE, "cuda:1")
    assert device_for() == torch.device("cuda:1")
    monkeypatch.setenv(VARIABLE, "cuda:2")
    with pytest.raises(InputError, match="not available"):
        device_for()


@pytest.mark.parametrize("asked", ["gpu", "meta", "3"])
def test_other_devices_are_refused(monkeypatch, asked):
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(InputError, match="unknown"):
        device_for()


@dataclass(frozen=True)
class Somewhere(Experiment):
    name: ClassVar[str] = "somewhere"
    asks: bool = True

    def compute(self, context):
        if self.asks:
            context.device()
        return Result({})


def test_a_result_says_where_it_was_computed(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, "cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert obtain(Somewhere(), tmp_path).provenance["device"] == "cuda"
    assert obtain(Somewhere(asks=False), tmp_path).provenance["device"] == "cpu"


@pytest.mark.parametrize("command", [
    ["run", "gd-quadratics"], ["build", "--no-run"], ["cell", "0"]], ids=lambda words: words[0])
def test_the_command_line_refuses_it_before_anything_starts(monkeypatch, command):
    monkeypatch.setenv(VARIABLE, "cpu")
    found = CliRunner().invoke(app, join_parameters([*command, "--device", "gpu"]))
    assert isinstance(found.exception, InputError) and "'gpu' is unknown" in str(found.exception)
    monkeypatch.setenv(VARIABLE, "gpu")
    found = CliRunner().invoke(app, join_parameters(command))
    assert isinstance(found.exception, InputError) and "'gpu' is unknown" in str(found.exception)


CREATING = {"arange", "as_tensor", "empty", "eye", "full", "linspace", "logspace", "normal", "ones", "rand", "randint",
            "randn", "randperm", "tensor", "zeros"}
# Packages whose tensors begin on the processor, and are moved as a whole with what holds them.
BEGIN_ON_THE_PROCESSOR = {
    "data": "data sets", "nets": "networks, so that a seed gives the same weights everywhere",
    "experiments": "toys stay there; problems and fits are moved as a whole",
}
# What else needs no device, with how often it stands there.
ON_THE_PROCESSOR = {
    "central/base.py": {"torch.as_tensor(share)": 1},  # of what is a tensor with its device, or a number
    "central/minibatch.py": {"torch.empty(0, dtype=torch.long)": 1, "torch.arange(self._n)": 1},  # order of examples
    "forecasters/iterated.py": {  # numbers of series, drawn from; a network that is moved
        "torch.arange(train.parameters)": 1, "torch.zeros(1, self.n + self.horizon + 1)": 1},
    "forecasters/wnn.py": {"torch.arange(WINDOW - 1, -1, -1)": 1},  # numbers of states, as above
    "matching/layerwise.py": {  # a ridge regression of few numbers
        "torch.zeros(len(self.sizes), count)": 1, "torch.eye(count, dtype=x.dtype)": 1},
    "matching/linear_start.py": {  # small matrices, solved there
        "torch.ones(len(ridges), dtype=torch.bool)": 1, "torch.zeros(knots, width, dtype=torch.float64)": 1,
        "torch.zeros(knots, width, width, dtype=torch.float64)": 1,
        "torch.zeros(knots - 1, width, width, dtype=torch.float64)": 1,
        "torch.tensor(ridges, dtype=torch.float64)": 1, "torch.arange(len(now))": 1,
        "torch.eye(diagonal.shape[-1], dtype=torch.float64)": 1},
    "matching/path.py": {"torch.zeros(len(x0), dtype=x0.dtype)": 1},  # drawn where the generator is, then moved
    "optimizers/consistency.py": {  # checks of a rule, on two weights
        "torch.as_tensor(P)": 1, "torch.as_tensor(self.rule.edge(state))": 1,
        "torch.as_tensor(self.rule.decay(start))": 1,
        "torch.as_tensor(self.call('preconditioner_rate', after, rates), dtype=self.w.dtype)": 1,
        "torch.as_tensor(diagonal(self.rule.preconditioner(after.moved(rates, dt))), dtype=self.w.dtype)": 1},
    "optimizers/methods.py": {
        "torch.as_tensor(value, dtype=torch.float64)": 1, "torch.tensor(float(value))": 1, "torch.as_tensor(value)": 1},
    "trajectories/batches.py": {"torch.arange(self.runs)": 1, "torch.arange(self.count)": 1},  # order of examples
    "trajectories/record.py": {"torch.zeros(1)": 1},  # a weight to try the options on
    "trajectories/rates.py": {"torch.zeros(1, requires_grad=True)": 1},  # a weight to try a schedule on
}


def test_every_new_tensor_is_given_its_device():
    """Or is drawn from a generator and moved, a module's own, or in the list above, which names the reason."""
    package = TESTS.parent / "gfm"
    found = {}
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in BEGIN_ON_THE_PROCESSOR and (calls := without_device(file.read_text())):
            found[name.as_posix()] = dict(calls)
    assert found == ON_THE_PROCESSOR


@pytest.mark.parametrize(("code", "count"), [
    ("x = torch.zeros(3)", 1), ("x = torch.zeros(3, device=w.device)", 0), ("x = torch.ones(3).round().to(w)", 0),
    ("x = torch.zeros(3).round()", 1), ("x = torch.rand(3, generator=g)", 0), ("x = torch.zeros_like(w)", 0),
    ("class Net(nn.Module):\n    def __init__(self):\n        self.x = torch.ones(2)\n"
     "    def forward(self, x):\n        return x + torch.ones(2)", 1),
])
def test_what_counts_as_a_tensor_without_its_device(code, count):
    assert sum(without_device(code).values()) == count


def without_device(code):
    """Calls that make a tensor wherever torch does, with their number."""
    tree = ast.parse(code)
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = Counter()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CREATING
                and ast.unparse(node.func.value) == "torch"):
            continue
        given = any(word.arg in ("device", "generator") for word in node.keywords)
        if not (given or moved(node, above) or in_a_modules_making(node, above)):
            found[ast.unparse(node)] += 1
    return found


def moved(node, above):
    while isinstance(above.get(node), ast.Attribute) and isinstance(above.get(above[node]), ast.Call):
        if above[node].attr == "to":
            return True
        node = above[above[node]]
    return False


def in_a_modules_making(node, above):
    """Whether it stands in the ``__init__`` of a torch module, which is moved as a whole."""
    while node in above and not isinstance(node, ast.FunctionDef):
        node = above[node]
    return isinstance(node, ast.FunctionDef) and node.name == "__init__" and is_module(above[node], above)


def is_module(kind, above):
    top = kind
    while top in above:
        top = above[top]
    kinds = {n.name: n for n in ast.walk(top) if isinstance(n, ast.ClassDef)}
    bases = [ast.unparse(base) for base in kind.bases]
    return "nn.Module" in bases or any(is_module(kinds[base], above) for base in bases if base in kinds)
