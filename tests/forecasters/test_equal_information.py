"""Sequence models that read the optimizer's state, and forecasters on top of the affine flow."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasters import LSTM, AffineFlow, Hold, Residual, Transformer
from gfm.forecasting.training import Training
from gfm.matching import Conditioning
from gfm.trajectories import record

generator = torch.Generator().manual_seed(0)
X = torch.randn(20, 12, 1, dtype=torch.float64, generator=generator)
Y = X * torch.randn(20, 1, 1, dtype=torch.float64, generator=generator)
SHORT = Training(epochs=2, batch=32)
models = pytest.mark.parametrize("cls", [LSTM, Transformer])


def recorded(optimizer="Adam", **options):
    def build():
        return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)).double()

    return record(build, X, Y, lambda a, b: (a - b).square().mean(), optimizer, lr=0.01, runs=20, steps=24,
                  per_run=True, **{"states": True, **options})


def other_averages(prefix):
    growing = np.linspace(1, 3, prefix.weights.shape[1])[:, None]
    states = {name: value * growing for name, value in prefix.states.items()}
    return Trajectories(prefix.weights, prefix.steps, None, prefix.meta, states)


@models
@pytest.mark.parametrize("optimizer", ["momentum", "RMSprop", "Adam"])
def test_only_what_knows_the_optimizer_sees_the_averages(cls, optimizer):
    prefix = recorded(optimizer).prefix(6)
    for aware in (True, False):
        model = cls(6, SHORT, optimizer_state=aware).fit(recorded(optimizer))
        change = np.abs(model.forecast(prefix) - model.forecast(other_averages(prefix))).max()
        assert change > 1e-5 if aware else change == 0


@models
def test_channels_are_standardised_by_the_training_runs(cls):
    data = recorded()
    model = cls(6, SHORT, optimizer_state=True).fit(data)
    channels = model._observed(data.prefix(6)).flatten(0, 1)[..., 1:]
    standard = (channels - model.module.center) / model.module.spread
    assert standard.shape == (200, 7, 5)
    torch.testing.assert_close(standard.mean(0), torch.zeros(7, 5), atol=1e-3, rtol=0)
    moving = standard[:, 1:]  # at the first state there are no gradients yet
    torch.testing.assert_close(moving.square().mean(0), torch.ones(6, 5), atol=1e-3, rtol=0)


@models
def test_an_aware_model_refuses_what_does_not_tell_the_optimizers_state(cls):
    with pytest.raises(InputError, match="'momentum' .*states=True, or use optimizer_state=False"):
        cls(6, SHORT, optimizer_state=True).fit(recorded(states=False))
    model = cls(6, SHORT, optimizer_state=True).fit(recorded())
    with pytest.raises(InputError, match="differs .* 4 steps apart, not 1"):
        model.forecast(recorded(every=4).prefix(6))
    for other in (recorded("RMSprop"), recorded("AdamW")):
        with pytest.raises(InputError, match=f"^The {cls.title} knows the optimizer .* differs: Adam"):
            model.forecast(other.prefix(6))
    with pytest.raises(InputError, match="differs"):
        model.forecast(recorded().weights[:, :7])
    with pytest.raises(InputError, match="states=True"):
        model.forecast(recorded(states=False).prefix(6))
    with pytest.raises(InputError, match="optimizer_state"):
        cls(6, optimizer_state="yes")


class Learner(Hold):
    """Forecasts as hold does, and keeps what it was fitted to."""

    name, optimizer_state = "learner", False

    def _fit(self, train, validation, report):
        self.train, self.validation = train, validation


@pytest.mark.parametrize("aware", [True, False])
def test_over_a_rival_that_forecasts_nothing_the_affine_flow_is_left(aware):
    train, val, test = recorded().split(10, 5, 5)
    rival = Learner()
    rival.optimizer_state = aware
    conditioning = Conditioning(optimizer_state=aware)
    affine = AffineFlow(6, view="coordinate", conditioning=conditioning).fit(train, val)
    model = Residual(6, rival).fit(train, val)
    np.testing.assert_allclose(model.forecast(test.prefix(6)), affine.forecast(test.prefix(6)), rtol=1e-12)
    # what the rival is to learn: w_n and what an affine flow leaves that has not seen the run
    np.testing.assert_array_equal(rival.train.weights[:, :7], train.weights[:, :7])
    others = AffineFlow(6, view="coordinate", conditioning=conditioning)
    others.fit(train[[i for i in range(10) if i % 5 != 2]], val)
    left = train[[2, 7]].weights[:, 7:] - others.forecast(train[[2, 7]].prefix(6))
    np.testing.assert_allclose(rival.train.weights[[2, 7], 7:], train.weights[[2, 7], 6:7] + left, rtol=1e-9)
    left = val.weights[:, 7:] - affine.forecast(val.prefix(6))
    np.testing.assert_allclose(rival.validation.weights[:, 7:], val.weights[:, 6:7] + left, rtol=1e-9)


def test_the_report_of_a_residual_is_its_rivals_with_the_numbers_of_both():
    train, val, _ = recorded().split(10, 5, 5)
    rival = LSTM(training=SHORT)
    report = Residual(6, rival).fit(train, val).fitted
    affine = AffineFlow(6, view="coordinate", conditioning=Conditioning(optimizer_state=False)).fit(train, val).fitted
    assert report.parameters == rival.fitted.parameters + affine.parameters
    assert report.epochs == rival.fitted.epochs == 2 and report.seconds > rival.fitted.seconds


def test_a_rival_is_a_forecaster():
    with pytest.raises(InputError, match="rival"):
        Residual(6, "lstm")
