"""Memory does not grow with the steps of a run."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_cover

# In a process of its own: what earlier tests have given back would hide what is taken here.
PROGRAM = """
import sys
import psutil
import gfm
from toys import tiny_problem

seen, asked = {}, [int(text) for text in sys.argv[1:]]

def look(done, steps):
    if done in asked:
        seen[done] = psutil.Process().memory_info().rss

gfm.central.run(tiny_problem(width=2), gfm.optimizers.GradientDescent(lr=0.3), asked[-1],
                processes=["discrete", "central"], progress=look)
print((seen[asked[1]] - seen[asked[0]]) / (asked[1] - asked[0]))
"""


@pytest.mark.parametrize(("first", "steps"), [(60, 180), pytest.param(1000, 5000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_steps(first, steps):
    # A step's records are some hundred numbers; kept each by itself they once took 100,000 bytes.
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM, str(first), str(steps)],
                          cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 10_000
