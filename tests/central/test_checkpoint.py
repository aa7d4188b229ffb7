"""Checkpoints: a killed run goes on to the same result, and one of another call is refused."""

import io
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from toys import tiny_data, tiny_net, tiny_problem

import gfm
from gfm.central import Settings
from gfm.central.processes import PROCESSES
from gfm.errors import UnreadableFileError
from gfm.files import read_sealed, write_sealed
from gfm.optimizers import Adam, GradientDescent, HeavyBall, RMSProp, ScalarRMSProp

run = gfm.central.run


NAMES = ["discrete", "minibatch", "midpoint", "stable", "central"]
RULES = {
    "gd": GradientDescent(lr=1.2),  # takes steps again
    "scheduled gd": GradientDescent(lr=lambda t: 0.8 / (1 + 0.01 * t)),
    "heavy ball": HeavyBall(lr=0.2, momentum=0.5),
    "scalar rmsprop": ScalarRMSProp(lr=0.2, beta2=0.9),
    "rmsprop": RMSProp(lr=0.01, beta2=0.9, eps=1e-3),
    "adam": Adam(lr=0.01, beta1=0.5, beta2=0.9, eps=1e-3),
}


def step(process, t):
    seen = process.observe(t)
    process.advance()
    return seen


def same(a, b):
    """Whether two values are equal bit for bit, in all that they hold."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, torch.Generator):
        return torch.equal(a.get_state(), b.get_state())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a).__module__.startswith("gfm."):
        return same(vars(a), vars(b))
    return a == b


def unequal(process, resumed):
    """Names of attributes that differ, the problem and the expansions at a point aside."""
    ours, theirs = vars(process), vars(resumed)
    names = (ours.keys() | theirs.keys()) - {"problem", "_point", "seconds"}
    return {name for name in names if name not in ours or name not in theirs or not same(ours[name], theirs[name])}


@cache
def problems():
    """One for the process that goes on, another for those that are resumed."""
    return tiny_problem(), tiny_problem()


def made(kind, rule, problem):
    start = rule.update(rule.init(problem.w0), problem.gradient(problem.w0))
    return kind(problem, rule, Settings(), problem.w0, start)


def resumed_from(process, kind, rule):
    """A process made anew that goes on from the state of another as a file holds it."""
    file = io.BytesIO()
    torch.save(process.state_dict(), file)
    file.seek(0)
    new = made(kind, rule, problems()[1])
    new.load_state_dict(torch.load(file, weights_only=True))
    return new


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.no_cover
def test_a_process_goes_on_bit_for_bit_from_its_state(name, rule):
    """Everything that a process holds after its next steps is the same: what a state lacks would differ."""
    process, resumed = made(PROCESSES[name], rule, problems()[0]), {}
    for t in range(12):
        if t in (0, 1, 8):
            resumed[t] = resumed_from(process, PROCESSES[name], rule)
        seen = process.observe(t)
        for first, other in list(resumed.items()):
            assert same(seen, other.observe(t)), first
            if t == first + 3:
                assert unequal(process, other) == set(), first
                del resumed[first]
            else:
                other.advance()
        process.advance()
    assert not resumed


@pytest.mark.parametrize("rule", [RULES["gd"], RULES["scheduled gd"]], ids=["gd", "scheduled gd"])
@pytest.mark.parametrize("name", ["rod", "edge"])
def test_so_do_the_rivals_of_the_central_flow(name, rule):
    test_a_process_goes_on_bit_for_bit_from_its_state(name, rule)


def test_an_attribute_that_the_state_lacks_is_found():
    class Forgetful(PROCESSES["central"]):
        steps = 0

        def advance(self):
            super().advance()
            self.steps += 1

    process = made(Forgetful, RULES["gd"], problems()[0])
    for t in range(3):
        step(process, t)
    resumed = resumed_from(process, Forgetful, RULES["gd"])
    step(process, 3), step(resumed, 3)
    assert "steps" in unequal(process, resumed)


@pytest.mark.parametrize("rule", [RULES["gd"], RULES["rmsprop"]], ids=["gd", "rmsprop"])
@pytest.mark.no_cover
def test_a_run_resumed_later_or_sooner_gives_the_same_result(tmp_path, rule):
    path, steps = tmp_path / "run.checkpoint", 10

    def keep(done, _):
        if path.exists():
            shutil.copy(path, tmp_path / str(done))

    options = {"processes": NAMES, "warmup": 2, "checkpoint": path}
    whole = run(tiny_problem(), rule, steps, progress=keep, checkpoint_every=1, **options)
    for first in (4, 7):  # an even and an odd step
        shutil.copy(tmp_path / str(first), path)
        seen = []
        rest = run(tiny_problem(), rule, steps, progress=lambda done, _, seen=seen: seen.append(done), **options)
        assert min(seen) == first and not path.exists()
        for process in NAMES:
            for name, values in whole[process].items():
                assert np.array_equal(values, rest[process][name], equal_nan=True), (first, process, name)
            spent, again = whole.costs[process], rest.costs[process]
            assert all(spent[name] == again[name] for name in ("gradients", "hvps", "thirds"))
    assert rule is not RULES["gd"] or whole["central"].retaken.any()


def test_random_numbers_of_observables_go_on_after_a_resume(tmp_path):
    options = {"observables": {"drawn": lambda w: torch.randn(2)}}
    rule, path = GradientDescent(lr=0.1), tmp_path / "run.checkpoint"
    whole = run(tiny_problem(), rule, 20, processes=["discrete"], **options)
    killed(path, tiny_problem(), rule, **options)
    rest = run(tiny_problem(), rule, 20, processes=["discrete"], checkpoint=path, **options)
    assert np.array_equal(whole["discrete"].drawn, rest["discrete"].drawn)


def test_another_function_under_the_same_name_is_another_run(tmp_path):
    path, rule = tmp_path / "run.checkpoint", GradientDescent(lr=0.1)
    killed(path, tiny_problem(), rule, observables={"size": lambda w: w.norm()})
    with pytest.raises(UnreadableFileError, match="another run"):
        resumed(path, tiny_problem(), rule, observables={"size": lambda w: w.abs().sum()})


def rewritten(path, change):
    """A checkpoint with other values, and a checksum that fits."""
    file = io.BytesIO()
    torch.save(torch.load(io.BytesIO(read_sealed(path)), weights_only=True) | change, file)
    write_sealed(path, file.getvalue())


def test_values_changed_without_the_checksum_are_noticed(tmp_path):
    path = tmp_path / "run.checkpoint"
    killed(path, tiny_problem(), GradientDescent(lr=0.1))
    torch.save(torch.load(io.BytesIO(read_sealed(path)), weights_only=True) | {"t": 12}, path)
    with pytest.raises(UnreadableFileError, match="not a readable"):
        resumed(path, tiny_problem(), GradientDescent(lr=0.1))


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    path = tmp_path / "run.checkpoint"
    killed(path, tiny_problem(), GradientDescent(lr=0.1))
    rewritten(path, {"format": "gfm-checkpoint/2"})
    with pytest.raises(UnreadableFileError, match="another version"):
        resumed(path, tiny_problem(), GradientDescent(lr=0.1))


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
    "setting": (tiny_problem, GradientDescent(lr=0.1), {"settings": Settings(track=2)}),
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


@pytest.mark.no_cover
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
