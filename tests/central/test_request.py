"""What a run is asked for is checked before any of it is done."""

import numpy as np
import pytest
import torch
from toys import tiny_net, tiny_problem

import gfm
from gfm.central import Settings
from gfm.central.processes import PROCESSES
from gfm.central.request import RESERVED
from gfm.errors import GfmError, InputError
from gfm.optimizers import GradientDescent, RMSProp
from gfm.problem import Costs

run = gfm.central.run


def scheduled(function):
    return {"optimizer": GradientDescent(lr=function)}


def observed(value, name="own"):
    return {"observables": {name: value}}


NAN = float("nan")
BAD = [
    ({"steps": 0}, "steps"), ({"steps": -3}, "steps"), ({"steps": 2.5}, "steps"), ({"steps": True}, "steps"),
    ({"substeps": 0}, "substeps"), ({"warmup": -1}, "warmup"), ({"keep_weights": -1}, "keep_weights"),
    ({"seed": "a"}, "seed"), ({"seed": -1}, "seed"), ({"seed": 2**70}, "seed"), ({"progress": 3}, "progress"),
    ({"processes": ["discrete", "sideways"]}, "Unknown process 'sideways'"), ({"processes": []}, "at least one"),
    ({"processes": ["central", "central"]}, "only once"), ({"processes": 3}, "names of processes"),
    ({"processes": [["central"]]}, "Unknown process"), ({"settings": {"cap": 3}}, "must be gfm.central.Settings"),
    ({"optimizer": torch.optim.SGD(tiny_net().parameters(), lr=0.1)}, "rule of gfm.optimizers"),
    ({"problem": tiny_net()}, "gfm.Problem"), ({"settings": Settings(curvature_penalty=False)}, "curvature penalty"),
    ({"w0": torch.zeros(3, dtype=torch.float64)}, "shape"), ({"w0": torch.zeros(433)}, "dtype"),
    ({"w0": np.zeros(433)}, "torch tensor"), ({"w0": torch.full((433,), NAN, dtype=torch.float64)}, "NaN"),
    ({"settings": Settings(track=500, cap=500)}, "only 433 weights"),
    ({"observables": [1]}, "map names"), (observed(3), "must be a function"),
    (observed(lambda w: None), "finite real tensor"), (observed(lambda w: "x"), "finite real tensor"),
    (observed(lambda w: w.log()), "finite real tensor"), (observed(lambda w: w[999]), "fails at the start"),
    *((observed(lambda w: w[:1], name), "itself") for name in ("loss", "sigma", "weights", "predicted_loss")),
    (observed(lambda w: w[:1], "a/b"), "without '/'"), (observed(lambda w: w[:1], 3), "must be text"),
    (scheduled(lambda t: 0.1 if t < 3 else -1.0), "gives -1.0 at step 3"), (scheduled(lambda t: -1), "at step 0"),
    (scheduled(lambda t: None), "no number at step 0"), (scheduled(lambda t: 1 / t), "ZeroDivisionError"),
    (scheduled(lambda a, b: 0.1), "no number"), (scheduled(lambda t: NAN), "gives nan"),
    ({"checkpoint": 3}, "must be the path of a file"), ({"checkpoint": "."}, "is a folder"),
    ({"checkpoint": __file__ + "/run.checkpoint"}, "checkpoint cannot be written"),
    ({"checkpoint_every": 0}, "checkpoint_every"), ({"checkpoint_seconds": "a"}, "checkpoint_seconds"),
    ({"checkpoint_seconds": NAN}, "checkpoint_seconds"),
]


BAD_SETTINGS = [
    *(({"cap": value}, "cap must") for value in (0, -1, 1.5)),
    *(({"track": value}, "track must") for value in (0, 1.5, True)),
    ({"track": 5, "cap": 2}, "cap allows 2"), ({"substeps": 0}, "substeps must"),
    *(({"tolerance": value}, "tolerance must") for value in (-1, 0, NAN, "a")),
    *(({"discrete_tolerance": value}, "discrete_tolerance must") for value in (-1, None)),
    *(({"critical_share": value}, "critical_share must") for value in (2, -1, NAN)),
    *(({"eigen_every": value}, "eigen_every must") for value in (0, 1.5)),
    *(({"band": value}, "band must") for value in (-1, NAN, float("inf"))),
    ({"adaptive": "x"}, "adaptive must"), ({"curvature_penalty": "no"}, "curvature_penalty must"),
    *(({"max_effective": value}, "max_effective must") for value in (-1, NAN)),
    *(({"coordinates": value}, "coordinates must") for value in (-3, 1.5)),
]


@pytest.mark.parametrize(("change", "words"), BAD_SETTINGS, ids=str)
def test_bad_settings_are_refused_when_they_are_made(change, words):
    with pytest.raises(InputError, match=words):
        Settings(**change)


@pytest.mark.parametrize(
    ("change", "words"), BAD, ids=lambda value: str(value)[:40] if isinstance(value, str) else None
)
def test_bad_input_gets_one_sentence_before_any_work(change, words):
    change = dict(change)
    problem = change.pop("problem", None) or tiny_problem()
    given = {"optimizer": GradientDescent(lr=0.1), "steps": 3, **change}
    with pytest.raises(GfmError, match=words):
        run(problem, given.pop("optimizer"), given.pop("steps"), **given)
    if isinstance(problem, gfm.Problem):
        assert problem.costs == Costs()


def test_a_run_never_uses_a_name_that_an_observable_could_have():
    found = run(
        tiny_problem(), RMSProp(lr=lambda t: 0.01, beta2=0.9, eps=1e-3), 3,
        processes=tuple(set(PROCESSES) - {"rod", "edge"}),
        settings=Settings(coordinates=2), keep_weights=1, warmup=10,
    )
    rivals = run(tiny_problem(), GradientDescent(lr=0.1), 2, processes=("discrete", "rod", "edge"))
    for series in (*found.series.values(), *rivals.series.values()):
        assert {name for name in series if not name.startswith("predicted_")} <= RESERVED
    assert {name.removeprefix("predicted_") for name in found["central"]} <= RESERVED


def test_numbers_of_numpy_are_taken_and_saved(tmp_path):
    plain = run(tiny_problem(), GradientDescent(lr=0.5), 3, settings=Settings(track=2), warmup=1, seed=1)
    rule = GradientDescent(lr=np.float64(0.5))
    numpy = run(
        tiny_problem(), rule, np.int64(3), warmup=np.int8(1), seed=np.uint8(1),
        settings=Settings(track=np.int32(2), adaptive=np.bool_(True), critical_share=np.float64(0.975)),
    )
    numpy.save(tmp_path / "run.npz")
    back = gfm.central.Run.load(tmp_path / "run.npz")
    assert np.array_equal(back["central"].loss, plain["central"].loss)
    assert {**back.settings, "seconds": 0} == {**plain.settings, "seconds": 0}


def test_the_callers_random_numbers_are_left_alone_and_the_runs_own_follow_its_seed():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    drawn = [
        run(
            tiny_problem(), GradientDescent(lr=0.1), 2, processes=["discrete"], seed=seed,
            observables={"draw": lambda w: torch.rand(2)},
        )["discrete"].draw
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert torch.equal(before, torch.random.get_rng_state())
