"""What every forecaster must pass, whatever its method; learned flows included."""


import numpy as np
import pytest
import torch

from gfm import GfmError, Trajectories
from gfm.errors import InputError
from gfm.forecasters import available
from gfm.forecasting.report import NOT_HELD_OUT
from gfm.forecasting.training import Training

QUICK = Training(epochs=3, patience=2, batch=8)


def make(name, **options):
    cls = available()[name]
    model = cls(**options)
    if hasattr(model, "training"):
        model.training = QUICK
    return model


def exponentials(runs=24, steps=40, parameters=2, seed=0):
    """Runs that settle at their own optimum at a common rate: every method can say something."""
    rng = np.random.default_rng(seed)
    end, start = rng.normal(size=(2, runs, 1, parameters))
    return Trajectories(end + (start - end) * 0.95 ** np.arange(steps + 1)[None, :, None])


def fitted(name, **options):
    train, val, test = exponentials().split(14, 5, 5)
    return make(name, observed=8, **options).fit(train, validation=val), test


every = pytest.mark.parametrize("name", sorted(available()))


@every
def test_a_forecast_has_the_shape_and_is_finite(name):
    model, test = fitted(name)
    forecast = model.forecast(test.prefix(8), 32)
    assert forecast.shape == (5, 32, 2) and np.isfinite(forecast).all()
    assert model.forecast(test.prefix(8)).shape == (5, 32, 2)
    assert model.report.seconds >= 0


@every
def test_what_decides_in_place_of_validation_runs_is_said(name):
    """Whatever looks at an error while it is fitted says on which runs."""
    train = exponentials()[:14]
    report = make(name, observed=8).fit(train).report
    chooses = name in ("gfm", "affine-flow")  # between options; all others look at it only to end a training
    assert report.notes.get("held_out") == (2 if chooses else NOT_HELD_OUT if report.validation else None)
    assert "held_out" not in fitted(name)[0].report.notes
    if chooses:
        assert make(name, observed=8).fit(train[:1]).report.notes["held_out"] == NOT_HELD_OUT


@every
def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(name):
    model, test = fitted(name)
    long, short = model.forecast(test.prefix(8), 30), model.forecast(test.prefix(8), 7)
    np.testing.assert_allclose(short, long[:, :7], rtol=1e-6, atol=1e-7)


@every
def test_runs_are_forecast_independently(name):
    """No run may learn from the other runs of the same call."""
    model, test = fitted(name)
    together = model.forecast(test.prefix(8), 10)
    alone = np.concatenate([model.forecast(test[run].prefix(8), 10) for run in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


@every
def test_the_future_of_a_run_is_not_looked_at(name):
    model, test = fitted(name)
    prefix = test.prefix(8)
    before = prefix.weights.copy()
    model.forecast(prefix, 10)
    assert (prefix.weights == before).all()
    with pytest.raises(InputError, match="states"):
        model.forecast(test, 10)


@every
def test_fits_are_repeatable(name):
    first, test = fitted(name)
    second, _ = fitted(name)
    a, b = (model.forecast(test.prefix(8), 20) for model in (first, second))
    assert (a == b).all()


@every
def test_an_array_or_a_tensor_will_do(name):
    model, test = fitted(name)
    from_array = model.forecast(test.weights[:, :9], 5)
    tensor = torch.from_numpy(test.weights[:, :9].copy()).to(torch.float32)
    from_tensor = model.forecast(tensor, 5)
    assert isinstance(from_tensor, torch.Tensor) and from_tensor.dtype == torch.float32
    np.testing.assert_allclose(from_tensor.numpy(), from_array, rtol=1e-2, atol=1e-2)


@every
def test_another_number_of_weights(name):
    model, _ = fitted(name)
    prefix = exponentials(runs=3, parameters=5, seed=1).prefix(8)
    if model.coordinatewise:
        assert model.forecast(prefix, 4).shape == (3, 4, 5)
    else:
        with pytest.raises(InputError, match="parameters"):
            model.forecast(prefix, 4)


@every
def test_bad_calls_are_refused(name):
    with pytest.raises(GfmError, match="not fitted"):
        make(name).forecast(np.zeros((1, 9, 2)), 3)
    model, test = fitted(name)
    good = test.weights[:, :9]
    for prefix in (good[:, :5], good[0], np.full_like(good, np.nan), good.astype(int)):
        with pytest.raises(InputError):
            model.forecast(prefix, 3)
    for horizon in (0, -1, 2.5, "3", True):
        with pytest.raises(InputError, match="horizon"):
            model.forecast(good, horizon)
    if model.bounded:
        with pytest.raises(InputError, match="steps ahead"):
            model.forecast(good, 33)
    train, *_ = exponentials().split(14, 5, 5)
    with pytest.raises(InputError, match="Trajectories"):
        make(name).fit(train.weights)
    with pytest.raises(InputError, match="nothing to forecast"):
        make(name, observed=40).fit(train)
    with pytest.raises(InputError, match="validation"):
        make(name, observed=8).fit(train, validation=exponentials(parameters=3))
    with pytest.raises(InputError):
        make(name, observed=0)


@every
def test_it_says_what_it_is(name):
    cls = available()[name]
    assert cls.name == name and cls.title and cls.__doc__


def test_a_refused_fit_leaves_the_earlier_one_as_it_was():
    runs = exponentials()
    model = make("linear-ends").fit(runs)
    before = model.forecast(runs.prefix(model.n), 5)
    with pytest.raises(InputError, match="nothing to forecast"):
        model.fit(runs.prefix(1))
    assert np.array_equal(model.forecast(runs.prefix(model.n), 5), before)
