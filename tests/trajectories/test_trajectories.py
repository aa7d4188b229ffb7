"""Trajectories: what is refused, what splits keep apart, what survives the disk."""

import json

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.errors import GfmError, InputError, UnreadableFileError
from gfm.trajectories import Layout


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


def test_prefix_and_every_keep_their_steps():
    data = some()
    assert data.prefix(3).steps.tolist() == [0, 1, 2, 3]
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
    (tmp_path / "words.npz").write_text("words")
    with pytest.raises(UnreadableFileError, match="it holds no plain arrays"):  # not NumPy's advice to trust it
        Trajectories.load(tmp_path / "words.npz")
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


# -- made from others ----------------------------------------------------------------------------
def named(runs=2, steps=(0, 1, 2), seed=0, **other):
    rng = np.random.default_rng(seed)
    options = {"meta": {"optimizer": "SGD", "lr": 0.1, "seed": seed}, "layout": Layout(("w", "b"), ((2, 1), (1,))),
               "buffers": {"count": np.arange(runs * len(steps)).reshape(runs, -1)}}
    return Trajectories(rng.normal(size=(runs, len(steps), 3)), steps, **{**options, **other})


def test_a_layout_gives_the_groups_and_survives_the_disk(tmp_path):
    data = named()
    back = Trajectories.load(data.save(tmp_path / "data"), memory_map=True)
    for it in (data, back, data[[0, 1]], data.prefix(2)):
        assert it.groups == ("w", "w", "b") and it.layout == Layout(("w", "b"), ((2, 1), (1,)))
        state = it.state_dict(run=1, step=1)
        assert state["w"].tolist() == data.weights[1, 1, :2, None].tolist() and state["count"].item() == 4


def test_files_written_before_there_were_layouts_are_read(tmp_path):
    path = tmp_path / "old.npz"
    header = {"schema": "gfm.trajectories/1", "shape": [1, 2, 3], "groups": [["a", 3]], "meta": {}, "states": []}
    np.savez(path, weights=np.ones((1, 2, 3)), steps=np.arange(2),
             header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    data = Trajectories.load(path)
    assert data.groups == ("a",) * 3 and data.layout is None and data.buffers == {}


def test_a_constant_buffer_is_stored_once(tmp_path):
    data = Trajectories(np.zeros((1, 50, 1)), buffers={"mask": np.broadcast_to(np.ones(10_000), (1, 50, 10_000))})
    path = data.save(tmp_path / "data.npz")
    assert path.stat().st_size < 100_000
    assert (Trajectories.load(path).buffers["mask"] == data.buffers["mask"]).all()


@pytest.mark.parametrize(("options", "words"), [
    ({"layout": Layout(("w",), ((4,),))}, "The layout has 4 weights, the trajectories 3"),
    ({"layout": {"w": (3,)}}, "layout must be a Layout"),
    ({"buffers": {"n": np.zeros((2, 2))}}, r"buffers\['n'\] has shape \(2, 2\)"),
    ({"buffers": {"n": np.full((2, 3), "a")}}, "numbers of shape"),
])
def test_layouts_and_buffers_must_fit(options, words):
    with pytest.raises(InputError, match=words):
        named(**options)


def test_a_layout_has_one_shape_for_each_name():
    for names, shapes in ((("a",), ()), (("a", "a"), ((1,), (1,)))):
        with pytest.raises(InputError, match="one shape for each name"):
            Layout(names, shapes)


def test_runs_of_one_kind_are_joined():
    a, b = named(seed=1), named(runs=3, seed=2)
    data = Trajectories.concat([a, b])
    assert (data.weights == np.concatenate([a.weights, b.weights])).all()
    assert data.meta == {"optimizer": "SGD", "lr": 0.1} and data.layout == a.layout
    assert data.buffers["count"].tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert data[[3]].state_dict(step=1)["count"].item() == 4
    prefixed = named(layout=Layout(("module.w", "module.b"), ((2, 1), (1,))))
    assert Trajectories.concat([a, prefixed]).runs == 4


@pytest.mark.parametrize(("other", "word"), [
    ({"steps": (0, 1, 3)}, "steps"),
    ({"layout": Layout(("b", "w"), ((1,), (2, 1)))}, "groups"),
    ({"layout": Layout(("w", "b"), ((1, 2), (1,)))}, "layout"),
    ({"layout": None}, "names and shapes"),
    ({"meta": {"optimizer": "SGD", "lr": 0.2}}, "lr"),
    ({"buffers": {}}, "buffers"),
])
def test_runs_of_other_kinds_are_not_joined(other, word):
    with pytest.raises(InputError, match=f"Trajectories 1 are of another kind than the first: their {word} differ"):
        Trajectories.concat([named(), named(**other)])


def test_concat_takes_trajectories():
    for parts in ([], [np.zeros((1, 2, 3))], 3):
        with pytest.raises(InputError, match="at least one"):
            Trajectories.concat(parts)


def test_uneven_steps_are_interpolated_on_request():
    """A straight line stays one, recorded states stay as they are, buffers are those of the nearest state."""
    steps = (0, 1, 2, 4, 8)
    line = np.array(steps, dtype=float)[None, :, None] * np.array([1.0, -3.0, 0.1])
    data = Trajectories(line, steps, buffers={"n": np.array(steps)[None]}, states={"second": line})
    even = data.resampled(1)
    assert even.steps.tolist() == list(range(9)) and even.stride == 1
    np.testing.assert_allclose(even.weights[0], np.arange(9)[:, None] * [1.0, -3.0, 0.1], rtol=1e-15)
    assert (even.weights[:, list(steps)] == data.weights).all() and (even.states["second"] == even.weights).all()
    assert even.buffers["n"].tolist() == [[0, 1, 2, 2, 4, 4, 4, 8, 8]]
    assert data.resampled(4).weights.tolist() == data.weights[:, [0, 3, 4]].tolist()
    assert Trajectories(line.astype(np.float32), steps).resampled(2).weights.dtype == np.float32
    with pytest.raises(InputError, match=r"uneven distances \(1, 2, 4 steps\).*resampled"):
        _ = data.stride
    with pytest.raises(InputError, match="does not divide the 8 steps from 0 to 8"):
        data.resampled(3)
    with pytest.raises(InputError, match="whole number"):
        data.resampled(0)


def test_a_forecast_continues_steps_and_keeps_the_last_buffers():
    data = named(steps=(10, 20, 30))
    later = data.continued(torch.ones(2, 4, 3, dtype=torch.float64))
    assert later.steps.tolist() == [30, 40, 50, 60, 70] and (later.weights[:, 0] == data.final).all()
    state = later.state_dict(run=1, step=70)
    assert state["w"].tolist() == [[1], [1]] and state["count"].item() == 5
    for wrong in (np.ones((2, 0, 3)), np.ones((1, 4, 3)), np.ones((2, 4)), np.ones((2, 4, 2))):
        with pytest.raises(InputError, match="A forecast of shape"):
            data.continued(wrong)


@pytest.mark.parametrize("steps", [np.array([5, 1], dtype=np.uint64), [0, 99999999999999999999], [0, 2**63],
                                   [2**63 - 1, -2**63]])
def test_steps_that_wrap_are_refused(steps):
    with pytest.raises(InputError, match=r"increase|below 2\*\*63"):
        Trajectories(np.zeros((1, 2, 1)), steps=steps)


def test_arrays_and_tensors_of_all_kinds():
    narrow = torch.rand(1, 2, 3, dtype=torch.bfloat16)
    data = Trajectories(narrow, np.array([1, 5], dtype=np.uint8), buffers={"b": narrow})
    assert data.weights.dtype == data.buffers["b"].dtype == np.float32 and data.steps.dtype == np.int64
    assert (data.weights == narrow.float().numpy()).all() and data.stride == 4
    for wrong in (narrow.to_sparse(), narrow.to("meta")):
        with pytest.raises(InputError, match="dense tensor with values"):
            Trajectories(wrong)
    with pytest.raises(InputError, match="The forecast cannot be read"):
        data.continued([[1], [1, 2]])
    array = Trajectories(narrow, meta={"a": np.zeros(2)})
    with pytest.raises(InputError, match="JSON"):
        Trajectories.concat([array, Trajectories(narrow, meta={"a": np.zeros(2)})])


def test_what_is_no_file_is_said(tmp_path):
    data = Trajectories(np.zeros((1, 2, 1)))
    (tmp_path / "empty.npz").touch()
    for call, words in ((lambda: Trajectories.load(tmp_path / "empty.npz"), "not a complete file"),
                        (lambda: Trajectories.load(None), "must be the path"),
                        (lambda: data.save(""), "must be the path"),
                        (lambda: data.save(tmp_path), "is a folder")):
        with pytest.raises(GfmError, match=words):
            call()
