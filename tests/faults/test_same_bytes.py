"""The same notebook gives the same bytes in any store, and on two threads the same numbers to within rounding."""

import io
from pathlib import Path

import numpy as np
import pytest
from programs import ended, start
from test_kills import written

ROOT = Path(__file__).parents[2]
CHEAP = ["central-flows/gd-quadratics.ipynb", "gradient-flow-matching/flow-matching-in-sixty-lines.ipynb"]
ROUNDING = 1e-6
"""Relative: two threads add in another order, and training carries that on."""


def numbers(name: str, content: bytes) -> np.ndarray:
    """The numbers of an array file or a table, in order."""
    if name.endswith(".npz"):
        with np.load(io.BytesIO(content)) as arrays:
            return np.concatenate([arrays[key].ravel() for key in sorted(arrays)])
    return np.genfromtxt(io.StringIO(content.decode()), delimiter=",", skip_header=1).ravel()


@pytest.mark.slow
@pytest.mark.parametrize("notebook", CHEAP)
def test_two_fresh_stores_and_one_or_two_threads(tmp_path, notebook):
    found = []
    for number, threads in enumerate("112"):
        build = tmp_path / str(number) / "build"
        ended(start(ROOT, "run", notebook, "--profile", "smoke", GFM_BUILD=str(build), GFM_STORE=str(build / "store"),
                    OMP_NUM_THREADS=threads))
        files = written(build.parent)
        found.append({name: files[name] for name in files if name.endswith(".npz")
                      or name.startswith(("smoke/data/", "smoke/figures/", "smoke/verdicts/"))})
    first, again, threaded = found
    assert first and [name for name in first if first[name] != again.get(name)] == []
    assert set(threaded) == set(first)
    for name in first:
        if name.endswith((".npz", ".csv")):
            one, two = numbers(name, first[name]), numbers(name, threaded[name])
            assert np.allclose(one, two, rtol=ROUNDING, atol=ROUNDING * np.nanmax(np.abs(one)), equal_nan=True), name
