"""Sorting and the toys: their laws, their masks, their seeds; and the names of all data sets."""

import pytest
import torch

from gfm import data
from gfm.errors import InputError, UnknownNameError


def test_sorting_targets_are_the_next_tokens_and_the_first_are_masked():
    d = data.sorting(50, length=5, vocabulary=3)
    assert d.inputs.shape == d.targets.shape == (50, 9) and d.vocabulary == d.outputs == 3
    assert (d.targets[:, :4] == data.IGNORE).all() and (d.targets[:, 4:] >= 0).all()
    unsorted, answers = d.inputs[:, :5], d.targets[:, 4:]
    assert torch.equal(unsorted.sort(dim=1).values, answers)
    assert torch.equal(d.inputs[:, 5:], answers[:, :-1])


def test_sorting_defaults_are_the_papers():
    d = data.sorting()
    assert d.inputs.shape == (1000, 15) and d.test_inputs.shape == (1000, 15)
    assert int(d.inputs.max()) == 3 and (d.targets[0] == data.IGNORE).sum() == 7


def test_generated_sets_repeat_and_depend_on_the_seed():
    for make in (data.sorting, data.moons, data.waves):
        assert make(20).fingerprint == make(20, seed=0).fingerprint != make(20, seed=1).fingerprint


def test_moons_and_waves():
    moons = data.moons(40, noise=0.0)
    assert moons.inputs.shape == (40, 2) and moons.targets.sum() == 0
    on_upper = moons.inputs[moons.targets[:, 0] == -1]
    torch.testing.assert_close(on_upper.norm(dim=1), torch.ones(20, dtype=torch.float64))
    assert data.moons(40, targets="one_hot").targets.shape == (40, 2)
    assert [data.moons(40, targets=t).outputs for t in ("signs", "parity", "one_hot", "indices")] == [1, 1, 2, 2]
    waves = data.waves(30, 5)
    assert waves.inputs.shape == (30, 5) and waves.targets.shape == (30, 1)
    assert abs(waves.targets.std(correction=0) - 1) < 1e-12


def test_data_sets_by_name():
    assert set(data.available()) >= {"digits", "cifar10", "mnist", "sorting"}
    assert data.load("sorting", n=10).fingerprint == data.sorting(10).fingerprint
    with pytest.raises(UnknownNameError, match="digits"):
        data.load("letters")
    with pytest.raises(UnknownNameError, match="length"):
        data.load("sorting", size=3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: data.sorting(0),
        lambda: data.sorting(10, length=1),
        lambda: data.sorting(10, vocabulary=1),
        lambda: data.moons(1),
        lambda: data.moons(10, targets="words"),
        lambda: data.waves(10, 0),
    ],
)
def test_impossible_sizes_are_refused(call):
    with pytest.raises(InputError):
        call()
