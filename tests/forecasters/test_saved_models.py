"""Fitted models on disk: they forecast the same bit for bit, and nothing else is taken for one."""

import json
import pickle
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from test_every_forecaster import QUICK, exponentials, make

import gfm
from gfm import GfmError, Trajectories
from gfm.errors import InputError, UnreadableFileError
from gfm.forecasters import OLS, AffineFlow, Forecaster, GradientFlowMatching, NiNoStyle, available, load, register
from gfm.forecasting.base import registered
from gfm.matching import Conditioning, IncrementPath, Network, Solver

GROUPS = ("a.weight", "a.bias")


def recorded(runs=20, dtype=np.float64):
    """Runs with all that a flow may use: Adam's averages, a schedule, labels, edges, float32 or float64."""
    data = exponentials(runs)
    rng = np.random.default_rng(1)
    weights = data.weights.astype(dtype)
    states = {"momentum": 0.1 * rng.normal(size=weights.shape), "second": rng.uniform(0.5, 1, size=weights.shape)}
    meta = {"optimizer": "Adam", "lr": 0.01, "options": {}, "edges": [[0, 2], [1, 2]],
            "schedule": [0.5] * 20 + [1.0]}
    return Trajectories(weights, groups=GROUPS, meta=meta, states={k: v.astype(dtype) for k, v in states.items()})


def again(model, path, prefix):
    """The loaded model, after a check that it forecasts as the saved one does."""
    back = load(model.save(path))
    assert type(back) is type(model) and back is not model
    for horizon in (None, 7):
        one, two = model.forecast(prefix, horizon), back.forecast(prefix, horizon)
        assert one.dtype == two.dtype and (one == two).all()
    assert back.report == model.report and (back.n, back.horizon) == (model.n, model.horizon)
    return back


@pytest.mark.parametrize("name", sorted(available()))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_forecaster_comes_back(name, dtype, tmp_path):
    train, val, test = recorded(24, dtype).split(14, 5, 5)
    before = torch.get_rng_state()
    back = again(make(name, observed=8).fit(train, val), tmp_path / "model", test.prefix(8))
    assert torch.equal(torch.get_rng_state(), before)
    again(back, tmp_path / "model", test.prefix(8))
    assert available()[name].load(tmp_path / "model.npz").name == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.npz"]


FLOWS = {
    "affine, coordinate": AffineFlow(8, view="coordinate"),
    "affine, vector": AffineFlow(8, view="vector", solver=Solver("rk4", 2)),
    "products, caution": AffineFlow(8, view="coordinate", conditioning=Conditioning("prefix", "run", True),
                                    products=True, damping="cautious", ridges=(1e-3, np.inf)),
    "layers, damping": AffineFlow(8, view="coordinate", conditioning=Conditioning("ends", "layer", False),
                                  damping="auto"),
    "gfm, coordinate": GradientFlowMatching(8, view="coordinate", training=QUICK),
    "gfm, vector": GradientFlowMatching(8, view="vector", training=QUICK),
    "gfm, optimizer": GradientFlowMatching(8, view="coordinate", conditioning=Conditioning("ends", "run", True),
                                           training=QUICK, damping="cautious"),
    "gfm, linear": GradientFlowMatching(8, view="coordinate", conditioning=Conditioning("ends", "none", False),
                                        network=Network((), "linear", 3), solver=Solver(dtype="float32"),
                                        path=IncrementPath("linear", 0.1, 2), training=QUICK, damping="auto"),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flows_with_all_their_options_come_back(name, tmp_path):
    train, test = recorded().split(16, 4)
    model = FLOWS[name].fit(train)
    back = again(model, tmp_path / "model", test.prefix(8))
    assert back.options == model.options and back.restraint.name == model.restraint.name
    if model.options.damping != "none":
        for damping in ("none", "auto"):
            other = model.with_damping(damping)
            assert (again(other, tmp_path / "other", test.prefix(8)).forecast(test.prefix(8), 5)
                    == back.with_damping(damping).forecast(test.prefix(8), 5)).all()
    if name == "gfm, optimizer":
        with pytest.raises(InputError, match="that of the prefix differs"):
            back.forecast(test.weights[:, :9])


def test_options_and_choices_of_the_fit_come_back(tmp_path):
    train, test = recorded().split(16, 4)
    again(OLS(8, columns=(0, 3, 8)).fit(train), tmp_path / "ols", test.prefix(8))
    again(make("dmd", observed=8, rank=1).fit(train), tmp_path / "dmd", test.prefix(8))
    again(make("lfd-2", observed=8, penalty=0.3).fit(train, max_weights=1), tmp_path / "some", test.prefix(8))
    again(make("gfm-memoryless", observed=8, time=False, hidden=(4,)).fit(train), tmp_path / "m", test.prefix(8))
    graph = again(NiNoStyle(8, QUICK, width=4).fit(train), tmp_path / "nino", test.prefix(8))
    assert graph.graph.tolist() == [[0, 2], [1, 2]] and graph.width == 4


def test_a_model_of_all_weights_knows_their_tensors(tmp_path):
    train, test = recorded().split(16, 4)
    back = again(AffineFlow(8, view="vector").fit(train), tmp_path / "model", test.prefix(8))
    other = Trajectories(test.weights, groups=GROUPS[::-1]).prefix(8)
    with pytest.raises(InputError, match="other tensors than the fitted runs"):
        back.forecast(other)
    assert back.forecast(test.weights[:, :9]).shape == (4, 32, 2)  # numbers alone have no names
    assert AffineFlow(8, view="coordinate").fit(train).forecast(other).shape == (4, 32, 2)


def test_what_the_file_says_of_itself(tmp_path):
    path = make("gfm", observed=8).fit(recorded()).save(tmp_path / "inner" / "model.npz")
    with np.load(path, allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert all(file[name].dtype.kind in "fiub" for name in file.files)
    assert header.pop("state")["forecaster"] == "gfm"
    assert header == {"schema": "gfm.forecaster/1", "version": gfm.__version__, "forecaster": "gfm", "observed": 8,
                      "horizon": 32, "weights": 2}


# -- own forecasters ---------------------------------------------------------------------------------
@pytest.fixture
def own():
    """Registers a forecaster for one test."""
    before = dict(registered)
    yield register
    registered.clear()
    registered.update(before)


class Plain(Forecaster):
    """A forecaster as in CONTRIBUTING.md, which knows nothing of files."""

    name = "own"

    def _fit(self, train, validation, report):
        self.kept = {"step": np.diff(train.weights, axis=1).mean(), "names": ("a", [1, None, 2.5]), 3: True}

    def _forecast(self, prefix, horizon):
        return prefix.weights[:, -1:] + np.arange(1, horizon + 1)[None, :, None] * self.kept["step"]


def test_an_own_forecaster_needs_no_code_for_it(own, tmp_path):
    runs = exponentials()
    model = own(Plain)(8).fit(runs)
    back = again(model, tmp_path / "model", runs.prefix(8))
    assert back.kept == model.kept and isinstance(back.kept["step"], np.float64)
    del registered["own"]
    with pytest.raises(UnreadableFileError, match="'own', which is not registered here: import the module"):
        load(tmp_path / "model.npz")


class WithModule(Plain):
    def _fit(self, train, validation, report):
        super()._fit(train, validation, report)
        self.rebuild()

    def rebuild(self):
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout()).eval()

    def _forecast(self, prefix, horizon):
        with torch.no_grad():
            return super()._forecast(prefix, horizon) + self.net(torch.ones(1, 1)).item()


def test_an_own_module_is_made_by_rebuild(own, tmp_path):
    runs = exponentials()
    again(own(WithModule)(8).fit(runs), tmp_path / "model", runs.prefix(8))  # with dropout off, as it was

    class Forgetful(WithModule):
        def _fit(self, train, validation, report):
            super()._fit(train, validation, report)
            self.other = torch.nn.Linear(1, 1)

    with pytest.raises(InputError, match=r"rebuild\(\) of Forgetful does not make its module 'other'"):
        own(Forgetful)(8).fit(runs).save(tmp_path / "forgetful")
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


@dataclass
class Tree:
    depth: int = 1


@pytest.mark.parametrize(("value", "words"), [
    (Tree(), "its thing is of type Tree"), (lambda: 0, "its thing is of type function"),
    ([{"a": {1}}], "its thing is of type set"), (np.array([None]), "an array of object"),
    (Plain(8), "Plain is not registered"),
])
def test_what_cannot_be_saved_is_said(own, tmp_path, value, words):
    class Odd(Plain):
        name = "odd"

    model = own(Odd)(8).fit(exponentials())
    model.thing = value
    with pytest.raises(InputError, match=f"'odd' cannot be saved: .*{words}") as refused:
        model.save(tmp_path / "model")
    assert str(refused.value).count("\n") == 0 and not list(tmp_path.iterdir())


def test_what_is_not_fitted_or_has_no_place(tmp_path):
    with pytest.raises(GfmError, match="not fitted"):
        make("ols").save(tmp_path / "model")
    model = make("ols", observed=8).fit(exponentials())
    (tmp_path / "file").write_text("")
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "file" / "model", "cannot be written"), ("", "path"),
                        (None, "path")):
        with pytest.raises(InputError, match=words):
            model.save(path)


# -- files that hold no model ------------------------------------------------------------------------
def altered(path, **header):
    """The file with another header."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    found = json.loads(arrays.pop("header").tobytes()) | header
    np.savez(path, **arrays, header=np.frombuffer(json.dumps(found).encode(), dtype=np.uint8))
    return path


@pytest.mark.parametrize(("header", "words"), [
    ({"schema": "gfm.forecaster/9"}, "its format is 'gfm.forecaster/9'"),
    ({"schema": None}, "its format is None"),
    ({"forecaster": "oracle"}, "'oracle', which is not registered here"),
    ({"forecaster": "gfm"}, "not fitted"),
    ({"forecaster": ["ols"]}, "not a file"),
    ({"state": None}, "not fitted"),
    ({"state": {"forecaster": "ols", "state": {"report": None, "n": 8}}}, "not fitted"),
    ({"state": {"forecaster": "ols", "state": {"coefficients": {"array": "array_9"}}}}, "array_9"),
    ({"state": {"forecaster": "oracle", "state": {}}}, "oracle"),
    ({"state": {"part": "os:system", "state": {}}}, "has no part 'os:system'"),
    ({"state": {"part": "gfm.forecasting.training:train_module", "state": {}}}, "has no part"),
    ({"state": {"part": "gfm.forecasting.training:Training", "state": {"epochs": -1}}}, "epochs must be"),
    ({"state": {"part": "gfm.forecasting.training:Training", "state": {"speed": 1}}}, "speed"),
    ({"state": {"module": {"dict": []}}}, "not a file"),
    ({"state": {}}, "not a file"),
])
def test_headers_of_other_files_are_refused(tmp_path, header, words):
    path = altered(make("ols", observed=8).fit(exponentials()).save(tmp_path / "model"), **header)
    with pytest.raises(UnreadableFileError, match=words) as refused:
        load(path)
    assert str(refused.value).count("\n") == 0 and str(path) in str(refused.value)


def test_broken_and_foreign_files_are_refused(tmp_path):
    runs = exponentials()
    path = make("gfm", observed=8).fit(runs).save(tmp_path / "model")
    whole, wanted = path.read_bytes(), load(path).forecast(runs.prefix(8))
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableFileError, match="not a file of a fitted forecaster"):
            load(path)
    refused = 0
    for at in np.linspace(0, len(whole) - 1, 60).astype(int):  # another byte is noticed, or changes nothing
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert (load(path).forecast(runs.prefix(8)) == wanted).all()
        except UnreadableFileError:
            refused += 1
    assert refused > 40
    path.write_bytes(pickle.dumps(make("hold")))
    for other in (path, runs.save(tmp_path / "runs"), tmp_path / "none.npz", tmp_path):
        with pytest.raises(UnreadableFileError):
            load(other)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", "{}")
    with pytest.raises(UnreadableFileError):
        load(path)
    with pytest.raises(InputError, match="path"):
        load(3)
    with pytest.raises(InputError, match="holds the forecaster 'hold', which is no GradientFlowMatching"):
        GradientFlowMatching.load(make("hold").fit(runs).save(tmp_path / "hold"))
