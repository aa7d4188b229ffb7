"""Where experiments compute, and that everything runs on another device than the processor."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from typer.testing import CliRunner

from gfm.cli import app, join_parameters
from gfm.device import VARIABLE, chosen
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
    assert chosen() == chosen(torch.float32) == torch.device("cpu")


def test_auto_takes_an_apple_gpu_in_single_precision_only(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: True)
    assert chosen() == torch.device("cpu") and chosen(torch.float32) == torch.device("mps")
    monkeypatch.setenv(VARIABLE, "mps")
    with pytest.raises(InputError, match="single precision"):
        chosen(torch.float64)


def test_cuda_comes_first_and_keeps_full_precision(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert chosen() == torch.device("cuda") and not torch.backends.cudnn.allow_tf32
    monkeypatch.setenv(VARIABLE, "cuda:1")
    assert chosen() == torch.device("cuda:1")
    monkeypatch.setenv(VARIABLE, "cuda:2")
    with pytest.raises(InputError, match="not available"):
        chosen()


@pytest.mark.parametrize("asked", ["gpu", "meta", "3"])
def test_other_devices_are_refused(monkeypatch, asked):
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(InputError, match="unknown"):
        chosen()


@dataclass(frozen=True)
class Somewhere(Experiment):
    name: ClassVar[str] = "somewhere"
    asks: bool = True

    def compute(self, context):
        if self.asks:
            chosen()
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
