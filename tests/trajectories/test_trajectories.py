"""Trajectories: what the door catches, what splits keep apart, what survives the disk."""

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.errors import InputError, UnreadableFileError


def some(runs=6, states=9, parameters=4):
    rng = np.random.default_rng(0)
    groups = ["0.weight"] * (parameters - 1) + ["0.bias"]
    return Trajectories(rng.normal(size=(runs, states, parameters)), groups=groups, meta={"lr": 0.1})


def test_split_by_run_leaves_no_run_on_both_sides():
    data = some()
    train, val, test = data.split(3, 2, 1)
    joined = np.concatenate([train.weights, val.weights, test.weights])
    assert (joined == data.weights).all()
    assert test.groups == data.groups and test.meta == {"lr": 0.1}


def test_prefix_after_and_every_keep_their_steps():
    data = some()
    assert data.prefix(3).steps.tolist() == [0, 1, 2, 3]
    assert data.after(3).steps.tolist() == [3, 4, 5, 6, 7, 8]
    assert data.every(4).steps.tolist() == [0, 4, 8]
    assert (data.every(4).weights == data.weights[:, [0, 4, 8]]).all()


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_loaded_are_equal(tmp_path, memory_map, dtype):
    data = some()
    data = Trajectories(data.weights.astype(dtype), data.steps * 5, data.groups, data.meta)
    back = Trajectories.load(data.save(tmp_path / "sub" / "runs.npz"), memory_map=memory_map)
    assert (back.weights == data.weights).all() and back.weights.dtype == dtype
    assert (back.steps == data.steps).all() and back.groups == data.groups
    assert back.meta == data.meta
    assert isinstance(back.weights, np.memmap) == memory_map
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["runs.npz"]  # nothing half-written


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = some().save(tmp_path / "runs.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError):
        Trajectories.load(path)
    np.savez(tmp_path / "foreign.npz", weights=np.zeros((1, 2, 3)))
    with pytest.raises(UnreadableFileError):
        Trajectories.load(tmp_path / "foreign.npz")
    np.savez(tmp_path / "pickled.npz", weights=np.array([object()]), allow_pickle=True)
    with pytest.raises(UnreadableFileError):
        Trajectories.load(tmp_path / "pickled.npz")
    with pytest.raises(UnreadableFileError):
        Trajectories.load(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "weights",
    [
        np.zeros((3, 4)),
        np.zeros((3, 4, 2), dtype=int),
        np.zeros((0, 4, 2)),
        np.zeros((3, 1, 2)),
        np.zeros((3, 4, 0)),
        np.full((3, 4, 2), np.nan),
        np.full((3, 4, 2), np.inf),
    ],
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(InputError):
        Trajectories(weights)


@pytest.mark.parametrize(
    "options",
    [{"steps": [0, 1]}, {"steps": [0, 2, 1, 3]}, {"steps": [0.0, 1.0, 2.0, 3.0]}, {"groups": ["a"]}],
)
def test_bad_steps_and_groups_are_refused(options):
    with pytest.raises(InputError):
        Trajectories(np.zeros((3, 4, 2)), **options)


def test_bad_sizes_are_refused():
    for sizes in [(), (0,), (4, 3)]:
        with pytest.raises(InputError):
            some().split(*sizes)
    with pytest.raises(InputError):
        some().prefix(9)
    with pytest.raises(InputError):
        some().every(0)


def test_meta_must_be_json(tmp_path):
    with pytest.raises(InputError):
        Trajectories(np.zeros((1, 2, 1)), meta={"f": object()}).save(tmp_path / "x.npz")


def test_a_torch_tensor_is_taken_with_its_dtype():
    data = Trajectories(torch.zeros(2, 3, 4, dtype=torch.float32))
    assert data.weights.dtype == np.float32 and data.parameters == 4


@pytest.mark.parametrize(("call", "words"), [
    (lambda d: Trajectories([[[1.0, 2.0]], [[1.0]]]), "one array of numbers"),
    (lambda d: Trajectories(d.weights, steps=[[1], [2, 3]]), "one array of numbers"),
    (lambda d: Trajectories(d.weights, groups=3), "groups must be"),
    (lambda d: Trajectories(d.weights, meta=3), "meta must be a mapping"),
    (lambda d: Trajectories(d.weights, states=[d.weights]), "states must be a mapping"),
    (lambda d: d.split("a"), "whole number"),
    (lambda d: d.split(2.0), "whole number"),
    (lambda d: d.prefix(1.5), "whole number"),
    (lambda d: d.every(1.5), "whole number"),
    (lambda d: d[[100]], "no run 100"),
    (lambda d: d[100], "no run 100"),
    (lambda d: d[["a"]], "whole numbers"),
])
def test_wrong_kinds_of_argument_get_one_sentence(call, words):
    data = Trajectories(np.random.default_rng(0).normal(size=(4, 6, 3)))
    with pytest.raises(InputError, match=words):
        call(data)


def test_runs_are_chosen_by_numbers_slices_and_masks():
    data = Trajectories(np.random.default_rng(0).normal(size=(4, 6, 3)))
    mask = np.array([True, False, False, True])
    for chosen in ([0, -1], slice(None, None, 3), mask, np.array([0, 3])):
        np.testing.assert_array_equal(data[chosen].weights, data.weights[[0, 3]])


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="another place"):
        Trajectories(np.zeros((1, 2, 1))).save(tmp_path / "file" / "data.npz")
