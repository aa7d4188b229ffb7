"""Contexts times the powers of the second moment: fields of their own for steep and flat directions."""

from dataclasses import replace

import numpy as np
import pytest

from gfm import Trajectories
from gfm.errors import InputError
from gfm.matching import AffineFlow, Conditioning, Solver
from gfm.matching.optimizer_state import second_moment_units, second_moments, times_powers

rng = np.random.default_rng(0)


def runs(count=40, states=12, parameters=30):
    """Flat weights go on as they went; steep ones turn back: the same increments, opposite futures."""
    size = rng.normal(size=(count, 1, parameters))
    speed = rng.normal(size=(count, 1, parameters))
    t = np.arange(states)[None, :, None]
    turned = np.where(t <= 4, t, 4 - size * (t - 4))
    second = np.exp(2 * size) * np.ones((1, states, 1))
    return Trajectories(speed * turned, meta={"optimizer": "Adam", "lr": 0.1},
                        states={"momentum": speed * np.ones((1, states, 1)), "second": second})


def error(**options):
    train, held, test = runs().split(20, 10, 10)
    model = AffineFlow(4, view="coordinate", conditioning=Conditioning(optimizer_state=True), **options)
    forecast = model.fit(train, held).forecast(test.prefix(4))
    return float(np.square(forecast - test.weights[:, 5:]).mean()), model, test


def test_a_future_that_depends_on_the_second_moment():
    """The size is clipped and standardised by run, so the fit is close and not exact."""
    blind, _, _ = error()
    seen, model, test = error(products=True)
    assert seen < 0.2 * blind
    whole = model.forecast(test.prefix(4))
    model.options = replace(model.options, solver=Solver(memory=2**20))
    model.flow.bytes_per_weight = lambda horizon: 2**20 // 7  # seven weights a chunk
    np.testing.assert_allclose(model.forecast(test.prefix(4)), whole, atol=1e-9)


def test_units_and_powers():
    data = runs(3)
    units = second_moment_units(data)
    np.testing.assert_allclose(second_moment_units(data, chunk=7), units)
    size = second_moments(data, units).reshape(3, -1)
    assert np.abs(size).max() <= 2.5 and np.abs(size.mean(axis=1)).max() < 0.1
    np.testing.assert_allclose(times_powers(np.array([[3.0]]), np.array([2.0])), [[3.0, 6.0, 9.0]])


def test_products_need_second_moments():
    bare = Trajectories(rng.normal(size=(10, 12, 3)), meta={"optimizer": "SGD", "lr": 0.1})
    with pytest.raises(InputError, match="second moments"):
        AffineFlow(4, view="coordinate", products=True, conditioning=Conditioning(optimizer_state=True)).fit(bare)
