"""Training by gradient: the learning rate's cycle, what an item is, what the last layer needs."""

import numpy as np
import pytest
import torch

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasters import available
from gfm.forecasters.sequence import _Block
from gfm.forecasting.report import FitReport
from gfm.forecasting.training import Training, train_module


def noisy_mean(schedule):
    """Squared distance to 1 of a scalar fitted to noisy draws around 1, after its training."""
    module = torch.nn.Linear(1, 1, bias=False).double()
    torch.nn.init.zeros_(module.weight)
    draws = 1 + torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = draws - draws.mean() + 1

    def loss(items, _):
        return (module.weight[0, 0] - draws[items]).square().mean()

    training = Training(rate=0.1, batch=4, epochs=8, patience=99, schedule=schedule)
    report = FitReport()
    count = iter(range(99))  # every epoch validates better: the last state is kept
    train_module(module, loss, 400, lambda: -next(count), training, report)
    assert report.epochs == report.best_epoch == 8
    return float((module.weight[0, 0] - 1).square())


def test_a_cycle_ends_without_the_noise_of_a_constant_rate():
    assert noisy_mean("one-cycle") < 0.05 * noisy_mean("constant")


def test_on_a_plateau_the_rate_falls_until_the_patience_is_over():
    module = torch.nn.Linear(1, 1, bias=False)
    scores = iter([3.0, 2.0, 2.5, 2.5, 1.0, *[1.5] * 99])
    rates = []

    def validate():
        rates.append(float((module.weight.detach() - before[-1]).abs()))
        return next(scores)

    before = []

    def loss(items, _):  # AdamW moves by the rate under a gradient that does not change
        before.append(module.weight.detach().clone())
        return module.weight.sum()

    report = FitReport()
    training = Training(rate=0.1, batch=1, epochs=50, patience=6, schedule="plateau")
    train_module(module, loss, 1, validate, training, report)
    assert (report.epochs, report.best_epoch) == (11, 5)  # six after the best, long before the cap
    falls = np.cumsum([0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0])  # after two epochs without a better score
    np.testing.assert_allclose(rates, 0.1 * 0.3**falls, rtol=1e-3)


def test_unknown_schedule():
    with pytest.raises(InputError, match="schedule"):
        Training(schedule="cosine")


def test_a_training_of_one_step_has_no_cycle():
    rng = np.random.default_rng(0)
    runs = Trajectories(rng.normal(size=(4, 31, 1)))
    model = available()["lstm"](observed=6, training=Training(epochs=1, batch=64, schedule="one-cycle"))
    assert np.isfinite(model.fit(runs).forecast(runs.prefix(6))).all()


def test_the_last_layer_computes_the_last_token_alone():
    torch.manual_seed(0)
    block, tokens = _Block(16, 4), torch.randn(5, 7, 16)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens, last=True), block(tokens, last=False)[:, -1:])


@pytest.mark.parametrize("name, items", [("transformer", 12), ("lstm", 12), ("nlinear", 4)])
def test_sequence_models_are_trained_series_by_series(name, items, monkeypatch):
    seen = []
    cls = available()[name]
    plain = cls._error

    def counting(self, observed, later):
        seen.append(len(observed))
        return plain(self, observed, later)

    monkeypatch.setattr(cls, "_error", counting)
    rng = np.random.default_rng(0)
    runs = Trajectories(rng.normal(size=(4, 31, 3)))
    model = cls(observed=6, training=Training(epochs=1, batch=1))
    model.fit(runs, validation=runs[:2])
    assert len(seen) == items + 1 and set(seen[:-1]) == {1}  # and one look at the validation runs


@pytest.mark.parametrize("name", ["rate", "batch", "epochs", "patience", "seed", "decay"])
def test_numbers_that_cannot_be_used_are_refused(name):
    for value in (float("nan"), -1, "a", 10**400 if name in ("rate", "decay") else 1.5):
        with pytest.raises(InputError, match=name):
            Training(**{name: value})
    with pytest.raises(InputError, match="seed must be a whole number of at least 0 and at most"):
        Training(seed=2**70)
