"""Forecasts in chunks: the same numbers, within the memory that is stated."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gfm import Trajectories
from gfm.forecasting.training import Training
from gfm.matching import AffineFlow, Conditioning, GradientFlowMatching, Network, Solver

MEASURE = """
import re, sys
from pathlib import Path
from test_chunks import fitted, prefix_of
def peak():  # of this program alone: getrusage's would begin with that of the process that called it
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
memory, network = int(sys.argv[2]), sys.argv[3] == "True"
model = fitted(memory=memory, network=network)
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
    options = {"view": "coordinate", "conditioning": Conditioning(scale=scale), "solver": Solver(memory=memory)}
    if network:
        return GradientFlowMatching(20, training=Training(epochs=1, batch=160), network=Network(), **options).fit(runs)
    return AffineFlow(20, **options).fit(runs)


def prefix_of(runs, parameters):
    return np.random.default_rng(1).normal(size=(runs, 21, parameters))


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("scale", ["none", "run"])
@pytest.mark.parametrize("runs, parameters", [(1, 3001), (40, 70)])
def test_chunks_do_not_change_the_forecast(network, scale, runs, parameters):
    prefix = prefix_of(runs, parameters)
    model = fitted(scale=scale, network=network)
    whole = model.forecast(prefix)
    model.options = replace(model.options, solver=Solver(memory=2**20))
    assert 2**20 < model.flow.bytes_per_weight(40) * runs * parameters  # more than one chunk is needed
    np.testing.assert_allclose(model.forecast(prefix), whole, rtol=0, atol=1e-9)  # rounding


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("network", [False, True])
@pytest.mark.no_cover
def test_peak_memory_of_a_forecast(network):
    """A process's peak grows by no more than the stated memory and the result; unbounded it would."""

    def grown(memory):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{MEASURE}",
             __file__.rpartition("/")[0], str(memory), str(network)],
            capture_output=True, text=True, check=True, timeout=300,
        )
        return int(done.stdout)

    assert grown(2**25) <= 2**25
    if not network:  # the measure sees what it should: all weights at once take more
        assert grown(2**31) > 2**26
