"""Forecasts in chunks: the same numbers, within the memory that is stated."""

import subprocess
import sys

import numpy as np
import pytest

from gfm import Trajectories
from gfm.forecasting.training import Training
from gfm.matching import Conditioning, GradientFlowMatching, Network, Solver

MEASURE = """
import re, sys
from pathlib import Path
from test_chunks import fitted, prefix_of
def peak():  # of this program alone: getrusage's would begin with that of the process that called it
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
memory, correction = int(sys.argv[2]), sys.argv[3] == "True"
model = fitted(memory=memory, network=correction)
model.forecast(prefix_of(1, 1000))
prefix = prefix_of(1, 60_000)
before = peak()
out = model.forecast(prefix)
print(peak() - before - out.nbytes)
"""


def fitted(network, memory=2**28, scale="auto"):
    rng = np.random.default_rng(0)
    t = np.arange(61)[None, :, None]
    noise = 0.01 * np.cumsum(rng.normal(size=(20, 61, 8)), axis=1)
    runs = Trajectories(rng.normal(size=(20, 1, 8)) * 0.97**t + noise)
    training = Training(epochs=1)
    return GradientFlowMatching(
        20, view="coordinate", training=training, conditioning=Conditioning(scale=scale),
        network=Network(always=True) if network else None, solver=Solver(memory=memory),
    ).fit(runs)


def prefix_of(runs, parameters):
    return np.random.default_rng(1).normal(size=(runs, 21, parameters))


@pytest.mark.parametrize("scale", ["none", "run"])
@pytest.mark.parametrize("runs, parameters", [(1, 3001), (40, 70)])
def test_chunks_do_not_change_the_forecast(scale, runs, parameters):
    prefix = prefix_of(runs, parameters)
    model = fitted(scale=scale, network=True)
    whole = model.forecast(prefix)
    model.solver = Solver(memory=2**20)
    assert model.solver.memory < model.flow.bytes_per_weight(40) * runs * parameters  # more than one chunk is needed
    np.testing.assert_allclose(model.forecast(prefix), whole, rtol=0, atol=1e-9)  # rounding


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("correction", [False, True])
def test_peak_memory_of_a_forecast(correction):
    """A process's peak grows by no more than the stated memory and the result; unbounded it would."""
    def grown(memory):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{MEASURE}",
             __file__.rpartition("/")[0], str(memory), str(correction)],
            capture_output=True, text=True, check=True, timeout=300,
        )
        return int(done.stdout)

    assert grown(2**25) <= 2**25
    if not correction:  # the measure sees what it should: all weights at once take more
        assert grown(2**31) > 2**26
