"""A lockstep run as a stored experiment: killed and taken up again, and a checkpoint that is broken."""

import numpy as np
import pytest

from gfm.experiments import Store, obtain
from gfm.experiments import flow_run as module
from gfm.experiments.store import key_of

SMALL = module.FlowRun(n=40, hidden=(6,), lr=0.2, steps=30)


class Killed(Exception):
    pass


def kill_at(step):
    def progress(done, total):
        if done == step:
            raise Killed
    return progress


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    return Store(tmp_path / "store", ())


def checkpoint(store):
    return store.entry(SMALL.name, f".{key_of(SMALL)}.checkpoint")


def test_a_killed_experiment_goes_on_to_the_result_of_an_unbroken_one(store, tmp_path):
    unbroken = obtain(SMALL, Store(tmp_path / "other", ()), progress=lambda done, total: None)
    with pytest.raises(Killed):
        obtain(SMALL, store, progress=kill_at(21))
    assert checkpoint(store).is_file()
    seen = []
    resumed = obtain(SMALL, store, progress=lambda done, total: seen.append(done))
    assert seen[0] == 21  # not from the start
    assert set(resumed.arrays) == set(unbroken.arrays)
    for name, array in unbroken.arrays.items():
        assert np.array_equal(resumed.arrays[name], array, equal_nan=True), name
    assert not checkpoint(store).exists()


def test_a_broken_checkpoint_is_not_trusted(store):
    with pytest.raises(Killed):
        obtain(SMALL, store, progress=kill_at(11))
    file = checkpoint(store)
    file.write_bytes(file.read_bytes()[:200])
    seen = []
    obtain(SMALL, store, progress=lambda done, total: seen.append(done))
    assert seen[0] == 0 and not file.exists()
