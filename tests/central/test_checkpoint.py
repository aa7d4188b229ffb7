"""Checkpoints: a killed run goes on to the same result, and one of another call is refused."""

import numpy as np
import pytest
import torch
from toys import tiny_data, tiny_net, tiny_problem

import gfm
from gfm.errors import UnreadableFileError
from gfm.optimizers import GradientDescent, RMSProp

run = gfm.central.run


@pytest.mark.parametrize(
    "rule", [GradientDescent(lr=0.6), RMSProp(lr=0.01, beta2=0.9, eps=1e-3)], ids=["gd", "rmsprop"]
)
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, rule):
    names, path = ["discrete", "midpoint", "stable", "central"], tmp_path / "run.checkpoint"
    whole = run(tiny_problem(), rule, 45, processes=names, warmup=2)

    class Killed(Exception):
        pass

    def kill(done, steps):
        if done == 34:
            raise Killed

    with pytest.raises(Killed):
        run(tiny_problem(), rule, 45, processes=names, warmup=2, progress=kill, checkpoint=path, checkpoint_every=10)
    assert path.exists()
    seen = []
    rest = run(
        tiny_problem(), rule, 45, processes=names, warmup=2, checkpoint=path, checkpoint_every=10,
        progress=lambda a, b: seen.append(a),
    )
    assert min(seen) == 30 and not path.exists()
    for process in names:
        for name, values in whole[process].items():
            assert np.array_equal(values, rest[process][name], equal_nan=True), (process, name)
    assert whole.costs["central"]["hvps"] == rest.costs["central"]["hvps"]


def killed(path, problem, rule, **options):
    """A run of 20 steps that leaves a checkpoint of step 10 behind."""

    def kill(done, steps):
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(problem, rule, 20, checkpoint=path, checkpoint_every=5, progress=kill, processes=["discrete"], **options)


def resumed(path, problem, rule, **options):
    """The first step that is done when the same run is asked for again."""
    seen = []
    run(problem, rule, 20, checkpoint=path, processes=["discrete"], progress=lambda a, b: seen.append(a), **options)
    return seen[0]


def with_tanh():
    net = tiny_net()
    net[1] = torch.nn.Tanh()
    return gfm.Problem(net, *tiny_data())


OTHER_CALLS = {
    "learning rate": (tiny_problem, GradientDescent(lr=0.2), {}),
    "schedule": (tiny_problem, GradientDescent(lr=lambda t: 0.1 if t < 19 else 0.05), {}),
    "module": (with_tanh, GradientDescent(lr=0.1), {}),
    "loss": (lambda: tiny_problem(loss=lambda a, b: ((a - b) ** 4).mean()), GradientDescent(lr=0.1), {}),
    "setting": (tiny_problem, GradientDescent(lr=0.1), {"track": 2}),
    "observables": (tiny_problem, GradientDescent(lr=0.1), {"observables": {"own": lambda w: w[:2]}}),
    "kept weights": (tiny_problem, GradientDescent(lr=0.1), {"keep_weights": 3}),
}


@pytest.mark.parametrize("name", OTHER_CALLS)
def test_a_checkpoint_of_another_call_is_refused(tmp_path, name):
    path = tmp_path / "run.checkpoint"
    killed(path, tiny_problem(), GradientDescent(lr=0.1))
    make, rule, options = OTHER_CALLS[name]
    with pytest.raises(UnreadableFileError, match="another run"):
        resumed(path, make(), rule, **options)
    assert path.exists()


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableFileError, match="readable"):
        resumed(path, tiny_problem(), GradientDescent(lr=0.1))


def test_a_checkpoint_serves_other_thread_counts_and_equal_schedules(tmp_path):
    path, threads = tmp_path / "run.checkpoint", torch.get_num_threads()
    killed(path, tiny_problem(), GradientDescent(lr=0.1))
    try:
        torch.set_num_threads(threads + 1)
        assert resumed(path, tiny_problem(), GradientDescent(lr=0.1)) == 10
    finally:
        torch.set_num_threads(threads)
    killed(path, tiny_problem(), GradientDescent(lr=lambda t: 0.1 + 0.01 * t))
    assert resumed(path, tiny_problem(), GradientDescent(lr=lambda t: 0.1 + t / 100)) == 10
