"""Fits to some of the weights, and where they are computed."""

import tracemalloc

import numpy as np
import pytest
import torch
from test_every_forecaster import exponentials, make

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasters import AffineFlow, Forecaster, GradientFlowMatching, available
from gfm.forecasting.training import Training

every = pytest.mark.parametrize("name", sorted(available()))
QUICK = Training(epochs=2, batch=8)


class Spy(Forecaster):
    """Keeps what it is fitted to."""

    name = "spy"

    def _fit(self, train, validation, report):
        self.seen = train, validation

    def _forecast(self, prefix, horizon):
        return np.repeat(prefix.weights[:, -1:], horizon, axis=1)


def numbered(runs, parameters=40):
    """Runs whose weight k is k at every step, with everything that is kept beside the weights."""
    weights = np.broadcast_to(np.arange(float(parameters)), (runs, 6, parameters))
    edges = [[number, number + 1] for number in range(parameters)]
    return Trajectories(weights, groups=[f"layer{n // 10}" for n in range(parameters)],
                        meta={"optimizer": "Adam", "edges": edges}, states={"second": weights + 0.5},
                        buffers={"mean": np.zeros((runs, 6, 3))})


@every
def test_some_of_the_weights(name):
    train, val, test = exponentials(parameters=12).split(14, 5, 5)
    spy = Spy(8).fit(train, val, max_weights=5)
    model = make(name, observed=8)
    if not model.takes_some():
        with pytest.raises(InputError, match="all weights together"):
            model.fit(train, val, max_weights=5)
        return
    model.fit(train, val, max_weights=5)
    forecast = model.forecast(test.prefix(8))
    assert forecast.shape == (5, 32, 12) and model.report.notes["fitted_weights"] == 5
    options = {"view": "coordinate"} if hasattr(model, "view") else {}
    alone = make(name, observed=8, **options).fit(*spy.seen)
    assert (alone.forecast(test.prefix(8)) == forecast).all()
    if model.learns():
        assert (make(name, observed=8, **options).fit(train, val).forecast(test.prefix(8)) != forecast).any()


def test_the_same_weights_in_all_runs_with_all_that_belongs_to_them():
    spy = Spy(2).fit(numbered(3), numbered(2), max_weights=9)
    numbers = spy.seen[0].weights[0, 0].astype(int)
    assert len(set(numbers)) == 9 and (np.diff(numbers) > 0).all() and numbers[-1] > 8
    for part in spy.seen:
        assert (part.weights == numbers).all() and (part.states["second"] == numbers + 0.5).all()
        assert part.groups == tuple(f"layer{n // 10}" for n in numbers)
        assert part.meta["edges"] == [[n, n + 1] for n in numbers] and part.buffers["mean"].shape[2:] == (3,)
        assert part.layout is None
    assert spy.parameters == 40 and spy.forecast(numbered(1).prefix(2)).shape == (1, 3, 40)
    again = Spy(2).fit(numbered(3), max_weights=9)
    assert (again.seen[0].weights[0, 0] == numbers).all() and again.seen[1] is None
    whole = Spy(2).fit(numbered(3), max_weights=40)
    assert whole.seen[0].parameters == 40 and "fitted_weights" not in whole.report.notes


@pytest.mark.parametrize("numbers", [[], [0, 40], [-1], [0.5], [[1]], "ab"])
def test_weights_that_are_not_there(numbers):
    with pytest.raises(InputError, match="whole numbers between 0 and 39"):
        numbered(1).select_weights(numbers)


@pytest.mark.parametrize("most", [0, -1, 2.5, "5", True])
def test_how_many_weights_is_a_whole_number(most):
    with pytest.raises(InputError, match="max_weights"):
        Spy(2).fit(numbered(2), max_weights=most)


def test_a_flow_fitted_to_some_weights_forecasts_all():
    """The vector view, which would suit the few weights, is not tried, and is refused if it is asked for."""
    runs = exponentials(parameters=100)
    model = AffineFlow(8).fit(runs, max_weights=3)
    assert model.flow.view == "coordinate" and model.forecast(runs.prefix(8)).shape == (24, 32, 100)
    few = exponentials(parameters=3)
    assert "vector" in AffineFlow(8).fit(few, max_weights=3).report.notes["tried"]
    for kind in (AffineFlow, GradientFlowMatching):
        with pytest.raises(InputError, match="all weights together"):
            kind(8, view="vector").fit(few, max_weights=2)


def test_the_memory_of_a_fit_is_that_of_the_chosen_weights():
    rng = np.random.default_rng(0)
    small = rng.normal(size=(2, 13, 200))
    large = Trajectories(np.tile(small, (1, 1, 500)))  # 100,000 weights: 21 MB

    def peak(data, **options):
        tracemalloc.start()
        available()["ols"](observed=3).fit(data, **options)
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return grown

    chosen = peak(large, max_weights=200)
    assert chosen < peak(Trajectories(small)) + 4 * 8 * 100_000  # drawing needs some numbers per weight, not series
    assert peak(large) > 10 * chosen  # the measure sees what it should


# -- devices -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("device", "words"), [
    ("cuda:99", "'cuda:99' is not available here: "), ("meta", "must be 'cpu' or 'cuda'"), ("tpu", "must be"),
    (1.5, "must be"),
])
def test_a_device_that_cannot_be_used(device, words):
    with pytest.raises(InputError, match=words) as refused:
        Spy(2).fit(numbered(2), device=device)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_the_cpu_is_the_default(device):
    train, val, test = exponentials().split(14, 5, 5)
    one, two = make("gfm", observed=8).fit(train, val, device=device), make("gfm", observed=8).fit(train, val)
    assert (one.forecast(test.prefix(8)) == two.forecast(test.prefix(8))).all() and one.report.device.startswith("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_fit_on_a_cuda_device_forecasts_from_the_cpu():
    train, val, test = exponentials().split(14, 5, 5)
    views = [GradientFlowMatching(8, view=view, training=QUICK) for view in ("coordinate", "vector")]
    for model in [*(make(name, observed=8) for name in sorted(available())), *views]:
        model.fit(train, val, device="cuda")
        assert model.report.device == "cuda" and np.isfinite(model.forecast(test.prefix(8))).all()
