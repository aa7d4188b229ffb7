"""Forecasts of files by models that are learned from longer runs, saved and used again."""

import numpy as np
import pytest
from test_forecast_files import cli

import gfm
import gfm.forecasting.training
from gfm.errors import InputError
from gfm.forecasters.files import forecast_files


def test_learning_from_longer_runs_reproduces_a_linear_map(tmp_path):
    """Exponential decays: regression on the prefix is exact, and the file comes back as it was saved."""
    start = np.random.default_rng(0).normal(size=(40, 1, 3))
    decay = 0.9 ** np.arange(13)[None, :, None] * start
    longer = gfm.Trajectories(decay[:30]).save(tmp_path / "train.npz")
    prefix = gfm.Trajectories(decay[30:, :5]).save(tmp_path / "prefix.npz")
    found = forecast_files(prefix, 8, "ols", longer)
    saved = gfm.Trajectories.load(found.save(tmp_path / "out.npz"))
    np.testing.assert_allclose(saved.weights[:, 1:], decay[30:, 5:], rtol=1e-6)
    assert list(saved.steps) == list(range(4, 13))


def test_weights_in_another_order_do_not_train_a_forecaster_of_all_weights(tmp_path):
    rng = np.random.default_rng(0)
    longer = gfm.Trajectories(rng.normal(size=(3, 6, 2)), groups=["b", "a"]).save(tmp_path / "train.npz")
    seen = gfm.Trajectories(rng.normal(size=(1, 3, 2)), groups=["a", "b"]).save(tmp_path / "seen.npz")
    kinds = gfm.forecasters.available()
    joint = next(name for name, kind in kinds.items() if not kind.coordinatewise and kind.learns())
    with pytest.raises(InputError, match="in another order"):
        forecast_files(seen, 1, joint, longer)


# -- saved models ------------------------------------------------------------------------------------
@pytest.fixture
def decays(tmp_path):
    """Files of longer runs, recorded with an optimizer's state or without, and of prefixes of others."""
    rng = np.random.default_rng(0)
    start, rates = rng.normal(size=(40, 1, 3)), rng.uniform(0.8, 0.95, (40, 1, 1))  # which only a prefix tells
    weights = rates ** np.arange(13)[None, :, None] * start
    states = {"momentum": weights + 0.1, "second": weights**2 + 1}
    meta = {"optimizer": "Adam", "lr": 0.01}
    full = gfm.Trajectories(weights, np.arange(13) * 10, ["a", "a", "b"], meta, states)
    full[:30].save(tmp_path / "train.npz")
    full[30:].prefix(4).save(tmp_path / "states.npz")
    full.without_states()[30:].prefix(4).save(tmp_path / "prefix.npz")
    return tmp_path


@pytest.mark.parametrize("method", ["ols", "affine-flow", "mixer"])
@pytest.mark.no_cover
def test_a_model_is_learned_once_and_used_again(decays, method):
    model = decays / "m" / "model.npz"
    code, said = cli(decays / "prefix.npz", decays / "one.npz", "--horizon", 8, "--method", method, "--train",
                     decays / "train.npz", "--save-model", model.with_suffix(""))
    assert code == 0 and f"The fitted model: {model}" in said and f"by {method}." in said, said
    code, said = cli(decays / "prefix.npz", decays / "two", "--horizon", 8, "--model", model)
    assert code == 0 and f"by {method}." in said, said
    one, two = (gfm.Trajectories.load(decays / name) for name in ("one.npz", "two.npz"))
    assert (one.weights == two.weights).all() and two.meta["forecast by"] == method
    assert not np.array_equal(one.weights[:, 1:], one.weights[:, :-1])


def test_some_weights_are_learned_from(decays):
    code, said = cli(decays / "prefix.npz", decays / "out.npz", "--horizon", 8, "--method", "ols", "--train",
                     decays / "train.npz", "--max-weights", 2, "--device", "cpu", "--save-model", decays / "model")
    assert code == 0, said
    assert gfm.forecasters.load(decays / "model.npz").report.notes == {"fitted_weights": 2}


def test_what_the_observed_run_does_not_tell_is_not_learned_from(decays):
    model = decays / "model.npz"
    options = {"method": "gfm", "train": decays / "train.npz", "save_model": model}
    forecast_files(decays / "prefix.npz", 8, **options)
    assert gfm.forecasters.load(model).report.notes["optimizer_state"] is False
    aware = gfm.forecasters.GradientFlowMatching(
        4, view="coordinate", conditioning=gfm.matching.Conditioning(optimizer_state=True),
        training=gfm.forecasting.training.Training(epochs=1)).fit(gfm.Trajectories.load(decays / "train.npz"))
    aware.save(model)
    assert forecast_files(decays / "states.npz", 8, model=model).parameters == 3
    code, said = cli(decays / "prefix.npz", decays / "out.npz", "--horizon", 8, "--model", model)
    assert code == 2 and "needs the optimizer's 'momentum'" in said and said.count("\n") == 1
    bare = gfm.Trajectories(gfm.Trajectories.load(decays / "prefix.npz").weights, np.arange(5) * 10)
    with pytest.raises(InputError, match="that of the prefix differs: Adam"):
        forecast_files(bare.save(decays / "bare"), 8, model=model)


@pytest.mark.parametrize(("words", "said"), [
    (["--model", "model.npz", "--method", "ols"], "leave out --method"),
    (["--model", "model.npz", "--train", "train.npz", "--save-model", "m"], "leave out --train and --save-model"),
    (["--model", "model.npz", "--max-weights", "2"], "leave out --max-weights"),
    (["--model", "none.npz"], "no file of a fitted forecaster"),
    (["--model", "train.npz"], "its format is 'gfm.trajectories/1'"),
    (["--model", "other.npz"], "fitted to 7 observed states, and"),
    (["--model", "near.npz"], "fitted to states 1 steps apart, and those of"),
    (["--model", "joint.npz"], "other tensors than the fitted runs"),
    (["--model", "model.npz", "--horizon", "9"], "cannot forecast 9"),
    (["--method", "hold", "--save-model", "m"], "--save-model is for what is learned"),
    (["--method", "hold", "--max-weights", "3"], "--max-weights is for what is learned"),
    (["--method", "hold", "--device", "cpu"], "--device is for what is learned"),
    (["--train", "train.npz", "--method", "mixer", "--max-weights", "2"], "looks at all weights together"),
    (["--train", "train.npz", "--method", "ols", "--device", "cuda:99"], "'cuda:99' is not available"),
    (["--train", "train.npz", "--method", "ols", "--save-model", "."], "is a folder"),
])
def test_models_and_options_that_do_not_fit(decays, monkeypatch, words, said):
    train = gfm.Trajectories.load(decays / "train.npz")
    kinds = gfm.forecasters.available()
    kinds["ols"](4).fit(train).save(decays / "model")
    kinds["ols"](6).fit(train).save(decays / "other")
    kinds["ols"](4).fit(gfm.Trajectories(train.weights)).save(decays / "near")
    kinds["affine-flow"](4, view="vector").fit(
        gfm.Trajectories(train.weights, train.steps, ["b", "b", "a"])).save(decays / "joint")
    monkeypatch.chdir(decays)
    before = sorted(decays.iterdir())
    horizon = [] if "--horizon" in words else ["--horizon", "8"]
    code, answer = cli("prefix.npz", "out.npz", *horizon, *words)
    assert code == 2 and said in answer and answer.count("\n") == 1, answer
    assert sorted(decays.iterdir()) == before
