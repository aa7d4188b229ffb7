"""A recording that is stopped and called again must be the recording that was never stopped."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from gfm.errors import UnreadableFileError
from gfm.trajectories import OPTIMIZERS, record

generator = torch.Generator().manual_seed(1)
X = torch.randn(3, 10, 1, generator=generator)
Y = torch.sin(X)
options = {"lr": 0.02, "runs": 3, "steps": 50, "batch": 4, "seed": 5, "every": 7, "states": True, "per_run": True}


def build():
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def mean_square(outputs, targets):
    return (outputs - targets).square().mean()


class Stopped(Exception):
    pass


def stop(step, steps):
    """Called at the steps 20 and 40: the second is past a checkpoint, in the middle of an epoch."""
    if step == 40:
        raise Stopped


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "inner" / "recording.pt"
    with pytest.raises(Stopped):
        record(build, X, Y, mean_square, "Adam", progress=stop, checkpoint=path, checkpoint_every=16, **options)
    assert path.is_file()
    return path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_stopped_and_unbroken_are_the_same(name, tmp_path):
    path = tmp_path / "recording.pt"
    unbroken = record(build, X, Y, mean_square, name, **options)
    how = {"checkpoint": path, "checkpoint_every": 16, **options}
    with pytest.raises(Stopped):
        record(build, X, Y, mean_square, name, progress=stop, **how)
    seen = []
    resumed = record(build, X, Y, mean_square, name, progress=lambda *at: seen.append(at), **how)
    assert seen == [(40, 50)]  # it went on at step 33 and not from the start
    assert (resumed.weights == unbroken.weights).all() and resumed.meta == unbroken.meta
    assert resumed.weights.dtype == np.float32 and (resumed.steps == unbroken.steps).all()
    assert resumed.states.keys() == unbroken.states.keys()
    assert all((resumed.states[s] == unbroken.states[s]).all() for s in unbroken.states)
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.no_cover
def test_killed_process(tmp_path):
    """The same with a process that is killed from outside, so that nothing of it can tidy up."""
    path = tmp_path / "recording.pt"
    code = (
        "import os, signal, sys\nsys.path.insert(0, sys.argv[1])\n"
        "from test_resume import *\n"
        "record(build, X, Y, mean_square, 'AdamW', checkpoint=sys.argv[2], checkpoint_every=16,\n"
        "       progress=lambda s, n: s == 40 and os.kill(os.getpid(), signal.SIGKILL), **options)\n"
    )
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", code, here, str(path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL and path.is_file()
    resumed = record(build, X, Y, mean_square, "AdamW", checkpoint=path, **options)
    assert (resumed.weights == record(build, X, Y, mean_square, "AdamW", **options).weights).all()


@pytest.mark.parametrize("change", [{"lr": 0.03}, {"steps": 51}, {"batch": 5}, {"every": [1]}, {"seed": 6}])
def test_a_checkpoint_of_another_call_is_refused(broken, change):
    with pytest.raises(UnreadableFileError, match="another recording"):
        record(build, X, Y, mean_square, "Adam", checkpoint=broken, **{**options, **change})
    with pytest.raises(UnreadableFileError, match="another recording"):
        record(build, X, Y + 1, mean_square, "Adam", checkpoint=broken, **options)


def test_broken_and_foreign_files_are_refused(broken):
    whole = broken.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        broken.write_bytes(content)
        with pytest.raises(UnreadableFileError, match="not a readable checkpoint"):
            record(build, X, Y, mean_square, "Adam", checkpoint=broken, **options)
    torch.save({"weights": torch.zeros(2)}, broken)
    with pytest.raises(UnreadableFileError, match="not a readable checkpoint"):
        record(build, X, Y, mean_square, "Adam", checkpoint=broken, **options)
    torch.save(build(), broken)  # a pickled object: never unpickled
    with pytest.raises(UnreadableFileError, match="not a readable checkpoint"):
        record(build, X, Y, mean_square, "Adam", checkpoint=broken, **options)
