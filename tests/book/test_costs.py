"""What cells cost: measured, expected from smaller runs, and shared among machines."""

from dataclasses import dataclass

import numpy as np
import pytest

from gfm.book.cells import Cell
from gfm.book.costs import estimates, makespan
from gfm.store import Experiment, Result, Store, key_of


@dataclass(frozen=True)
class Long(Experiment):
    name = "long"
    steps: int = 10
    n: int = 4
    net: str = "mlp"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    monkeypatch.setenv("GFM_STORE", str(tmp_path / "store"))

    def measure(experiment, seconds):
        origin = {"parameters": experiment.parameters(), "seconds": seconds}
        Store().save(experiment.name, key_of(experiment), Result({"x": np.zeros(1)}, {}, origin))

    return measure


def of(*experiments):
    return estimates([Cell("own.ipynb", e, key_of(e)) for e in experiments])


def test_a_stored_cell_took_what_it_took_and_others_grow_with_steps_and_examples(measured):
    measured(Long(steps=10, n=4), 2.0)
    assert of(Long(), Long(steps=30), Long(steps=30, n=8)) == [2.0, 6.0, 12.0]


def test_the_nearest_relative_counts_and_of_equals_the_longer(measured):
    measured(Long(steps=10), 2.0)
    measured(Long(steps=1000), 100.0)
    measured(Long(steps=20, net="cnn"), 80.0)
    assert of(Long(steps=2000), Long(steps=40, net="cnn")) == [200.0, 160.0]
    assert of(Long(net="vit")) == [None]  # another network says nothing


def test_what_was_never_measured_is_unknown_and_a_broken_result_teaches_nothing(measured, tmp_path):
    assert of(Long()) == [None]
    measured(Long(steps=20), 2.0)
    for text in ("", "{}", '{"provenance": {"parameters": {}, "seconds": null}}'):
        next((tmp_path / "store").glob("*/*/result.json")).write_text(text)
        assert of(Long()) == [None]


def test_machines_share_the_cells_longest_first():
    seconds = [7.0, 5.0, 4.0, 4.0, 4.0]
    assert makespan(seconds, 1) == sum(seconds)
    assert makespan(seconds, 2) == 13  # 7 + 4, 5 + 4 + 4
    assert makespan(seconds, 64) == max(seconds)
    assert makespan([], 8) == 0
