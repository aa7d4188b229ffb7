"""A lockstep run as a stored experiment: killed and taken up again, and a checkpoint that is broken."""

import numpy as np
import pytest

from gfm.central import Settings
from gfm.errors import InputError, UnknownNameError
from gfm.experiments.central import flow_run as module
from gfm.experiments.central.continued_run import ContinuedRun
from gfm.store import Context, Store, obtain
from gfm.store.store import key_of

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


@pytest.mark.no_cover
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
    with pytest.warns(UserWarning, match="it is removed here"):
        obtain(SMALL, store, progress=lambda done, total: seen.append(done))
    assert seen[0] == 0 and not file.exists()


def test_a_checkpoint_of_another_run_is_not_removed_in_silence(store):
    short = module.FlowRun(n=40, hidden=(6,), lr=0.2, steps=8, processes=("discrete",))
    with pytest.raises(Killed):
        obtain(short, store, progress=kill_at(5))
    file = store.entry(short.name, f".{key_of(short)}.checkpoint")
    other = module.FlowRun(n=40, hidden=(6,), lr=0.3, steps=8, processes=("discrete",))
    with pytest.warns(UserWarning, match="of another run"):
        found = other.compute(Context(checkpoint=file))
    assert np.array_equal(found.arrays["discrete/loss"], other.compute(Context()).arrays["discrete/loss"])


def test_values_that_no_run_can_have():
    with pytest.raises(InputError, match="outputs"):
        module.FlowRun(outputs=-1)
    with pytest.raises(UnknownNameError, match="Unknown schedule 'linear'; choose one of constant"):
        module.FlowRun(schedule="linear")


def test_noise_among_the_labels_is_part_of_the_run_and_only_where_it_can_be():
    noisy = module.FlowRun(n=40, hidden=(6,), lr=0.2, steps=30, noise=0.5)
    assert "noise" not in SMALL.parameters() and key_of(noisy) != key_of(SMALL)
    assert noisy.data_fingerprint() != SMALL.data_fingerprint()
    with pytest.raises(InputError, match="'sorting' has no noise"):
        module.FlowRun(data="sorting", n=40, noise=0.5).data_fingerprint()


def test_a_constant_schedule_leaves_the_key_and_another_is_recorded():
    assert "schedule" not in SMALL.parameters()
    kwargs = {"n": 40, "hidden": (6,), "lr": 0.2, "steps": 8, "processes": ("discrete",), "schedule": "cosine"}
    experiment = module.FlowRun(**kwargs)
    assert experiment.parameters()["schedule"] == "cosine" and key_of(experiment) != key_of(SMALL)
    found = experiment.compute(Context())
    assert found.info["settings"]["schedule"] == "Cosine(peak=0.2, steps=8)"
    rates = found.arrays["discrete/lr"]
    assert rates[0] == 0.2 and rates[-1] == pytest.approx(0.02) and (np.diff(rates) < 0).all()


def test_settings_lie_flat_among_the_parameters_and_stored_keys_stay_valid():
    own = {"n": 40, "hidden": (6,), "eigen_every": 3, "tolerance": 1e-3, "adaptive": False, "coordinates": 10**9}
    run = module.FlowRun.from_parameters(**own)
    settings = Settings(eigen_every=3, tolerance=1e-3, adaptive=False, coordinates=10**9)
    assert run == module.FlowRun(n=40, hidden=(6,), settings=settings)
    assert run.parameters() | own == run.parameters() | {"hidden": (6,)} and "band" not in run.parameters()
    assert module.FlowRun.from_parameters(**run.parameters()) == run  # lists become tuples again
    assert module.FlowRun(settings=Settings(band=1e-4)).parameters()["band"] == 1e-4
    # The keys of results that were stored when a run's parameters were still one flat list.
    assert key_of(SMALL).startswith("22400e0466e65b5219be31e9-")
    assert key_of(run).startswith("ac674fca5eb0b3ada2754a12-")
    with pytest.raises(InputError, match="no parameter 'rate'"):
        module.FlowRun.from_parameters(rate=1)


def test_a_continued_run_takes_every_parameter_of_its_own():
    kwargs = {
        "n": 40, "hidden": (4,), "optimizer": "scalar_rmsprop", "lr": 0.02, "steps": 4, "start_steps": 3,
        "processes": ("central",), "critical_share": 0.9, "tolerance": 1e-3, "adaptive": False, "coordinates": 4,
        "warmup": 2,
    }
    found = ContinuedRun.from_parameters(**kwargs).compute(Context())
    for name in ("critical_share", "tolerance", "adaptive", "coordinates", "warmup"):
        assert found.info["settings"][name] == kwargs[name], name
    assert found.arrays["central/gradient2_at"].shape == (5, 4)
    assert found.info["costs"]["start"]["gradients"] == 3 and found.info["costs"]["warmup"]["gradients"] == 2
    with pytest.raises(InputError, match="start_steps"):
        ContinuedRun.from_parameters(**{**kwargs, "start_steps": -1}).compute(Context())


def test_a_killed_continued_run_goes_on(store):
    experiment = ContinuedRun(
        n=40, hidden=(4,), optimizer="scalar_rmsprop", lr=0.02, steps=8, start_steps=3, processes=("discrete",)
    )
    with pytest.raises(Killed):
        obtain(experiment, store, progress=kill_at(5))
    seen = []
    obtain(experiment, store, progress=lambda done, total: seen.append(done))
    assert seen[0] == 5
