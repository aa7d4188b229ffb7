"""nbval runs every cell anew, forgives a last digit, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nbval_tolerance import agree

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("one, other, same", [
    ("x is 0.0789", "x is 0.0791", True),
    ("x is 0.0789", "x is 0.0991", False),
    ("x is −5.32·10⁻⁸ |", "x is −5.30·10⁻⁸ |", True),
    ("x is 5.32·10⁻⁸", "x is 5.32·10⁻⁷", False),
    ("| 3.67e-04 ± 1e-04 |", "| 3.63e-04 ± 1e-04 |", True),
    ("| 3.67e-04 |", "| 3.67e-03 |", False),
    ("**holds** 1", "**fails** 1", False),
    ("below 10⁻⁹", "below 10⁻⁸", False),
    ("1, 2", "1, 2, 3", False),
    ("A2 1.0", "A3 1.0", False),
    ("x 1.0", "x -1.0", False),
    ('<svg d="M1.0,0.001L300.5,4">', '<svg d="M1.5,0.9L301.0,4">', True),
    ('<svg d="M1.0,0.001L300.5,4">', '<svg d="M9.0,0.9L301.0,4">', False),
])
def test_words_exactly_numbers_nearly(one, other, same):
    assert agree(one, other) is same


@pytest.mark.parametrize("old, new, code", [("", "", 0), ("0.024", "0.0241", 0), ("0.024", "0.034", 1),
                                            ("**holds**", "**fails**", 1), ("31 points", "31 dots", 1)])
def test_a_committed_output_that_is_not_reproduced_fails(project, old, new, code):
    from gfm.book import execute

    path = project / "notebooks/part/toy.ipynb"
    execute.in_place(path)
    text = path.read_text()
    head, outputs = text.split('"outputs": [', 1)
    assert old in outputs
    path.write_text(head + '"outputs": [' + outputs.replace(old, new))
    command = [sys.executable, "-m", "pytest", "-p", "nbval_tolerance", "-p", "no:cacheprovider",
               "--nbval", "--nbval-current-env", str(path)]
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS), "TQDM_DISABLE": "1"},
                         cwd=project, capture_output=True, text=True)
    assert run.returncode == code, run.stdout
    shutil.rmtree(project / "build")
