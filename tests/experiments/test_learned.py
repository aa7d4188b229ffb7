"""The experiments of the learned flow: their closed forms, and that each runs in small."""

import sys
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gfm.data.least_squares import least_squares
from gfm.errors import InputError, UnknownNameError
from gfm.experiments.learned import ablations
from gfm.experiments.learned.ablations import OTHER_DATA, VARIANTS, Ablation
from gfm.experiments.learned.bayes_limits import BayesLimit, TowerProperty, TrueDynamics, mean_dynamics
from gfm.experiments.learned.cost import ForecastCost, grown, image_net, training_operations
from gfm.experiments.learned.least_squares import LeastSquaresForecast, make_forecaster, replicate_set
from gfm.experiments.learned.small_networks import NetworkForecast, losses_at, slopes, small_networks
from gfm.experiments.learned.transfers import NetworkTransfer
from gfm.experiments.learned.vector_field import product_gradient
from gfm.store import Context


def compute(experiment):
    return experiment.compute(Context())


def test_true_dynamics_are_the_run_itself_with_full_gradients():
    made = least_squares(3, "GD", 1)
    np.testing.assert_allclose(mean_dynamics(made, slice(0, 3)), made.weights[:3, 21:], atol=1e-12)


def test_true_dynamics_are_the_mean_over_mini_batches():
    made = least_squares(1, "SGD", 1)
    ratio = (made.weights[:, 21:] - made.optima[:, None]) / (
        mean_dynamics(made, slice(None)) - made.optima[:, None]
    )
    assert ratio[:, -1].mean() == pytest.approx(1.0, abs=0.02)


def test_nobody_is_better_than_the_oracle():
    oracle = compute(TrueDynamics(3, "SGD", samples=1)).arrays["errors"][0, -1]
    ours = compute(LeastSquaresForecast("gfm", 3, "SGD", samples=1, epochs=2)).arrays["errors"][0, -1]
    assert oracle < 0.05 * ours


def test_velocity_matching_is_regression():
    arrays = compute(TowerProperty(1, "SGD")).arrays
    np.testing.assert_allclose(arrays["matched"], arrays["regressed"], atol=1e-11)


def test_the_bayes_limit_lies_below_regression():
    bayes = compute(BayesLimit(3, draws=8000, epochs=6, samples=2)).arrays["errors"].mean(axis=0)
    linear = compute(LeastSquaresForecast("ols-ends", 3, "SGD", samples=2)).arrays["errors"].mean(axis=0)
    assert bayes[-1] < linear[-1]


def test_product_gradient_is_the_gradient():
    w = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    loss = 0.5 * (w[:, 0] * w[:, 1] - 1) ** 2
    loss.sum().backward()
    np.testing.assert_allclose(product_gradient(w.detach().numpy()), w.grad)


def test_expected_loss_of_a_linear_network():
    """A network that is the zero function has loss E[(s x)^2] = s^2."""
    np.testing.assert_allclose(losses_at(np.zeros((2, 31)), np.array([1.0, 3.0])), [1.0, 9.0])


@pytest.mark.parametrize("channels", [(0, 4, 4), (4, 4), (4, 4, "4"), 4])
def test_an_image_network_has_three_convolutions(channels):
    with pytest.raises(InputError, match="channels"):
        image_net(channels)


def test_the_image_network_has_ninos_size():
    assert sum(p.numel() for p in image_net().parameters()) == 14_378
    assert ForecastCost(channels=(32, 64, 140)).weights == 101_006
    one, two = (training_operations(28, batch) for batch in (64, 128))
    assert two == 2 * one


def test_networks_are_seeded_and_replicates_differ():
    one, two = (small_networks("Adam", r, runs=4, steps=5) for r in (0, 1))
    small_networks.cache_clear()
    assert (small_networks("Adam", 0, runs=4, steps=5).weights == one.weights).all()
    assert (one.weights != two.weights).any() and one.meta["optimizer"] == "Adam"


def test_network_forecasts_and_transfers_run():
    same = compute(NetworkForecast("ols", "SGD", replicates=1, runs=16)).arrays
    assert same["errors"].shape == same["hold"].shape == (1, 180)
    test = small_networks("SGD", 0, 16).weights[12:]
    known = [np.median(losses_at(test[:, step], slopes(0, 16)[12:])) for step in (20, 200)]
    np.testing.assert_allclose(same["losses"][0, [0, 2]], known)
    assert known[1] < known[0]  # the tasks are those that were trained on
    tried = (("ols", "auto", "auto"), ("affine-flow", "no", "auto"))
    wide = compute(
        NetworkTransfer(tried, "SGD", ((1.0, 10), (0.5, 12)), epochs=1, runs=16)
    ).arrays
    assert wide["errors"].shape == (2, 2) and wide["hold"].shape == (2,)
    # on unseen runs of the fitted kind a transfer is an ordinary forecast
    np.testing.assert_allclose(wide["errors"][0, 0], same["errors"][0, -1])
    assert (wide["hold"][0] != wide["hold"][1]) and np.isfinite(wide["errors"]).all()


def test_sequence_models_are_fitted_blind_aware_and_over_the_affine_flow():
    options = {"optimizer": "Adam", "replicates": 1, "epochs": 1, "runs": 16}
    found = {(aware, over): compute(NetworkForecast("lstm", aware=aware, over_affine=over, **options))
             for aware in ("no", "yes") for over in (False, True)}
    numbers = {key: result.info["parameters"][0] for key, result in found.items()}
    assert numbers["no", False] < numbers["yes", False] < numbers["yes", True]
    ends = [result.arrays["errors"][0, -1] for result in found.values()]
    assert len(np.unique(ends)) == 4 and np.isfinite(ends).all()


def test_over_the_affine_flow_a_rule_that_holds_adds_nothing():
    over = compute(LeastSquaresForecast("hold", 1, "SGD", samples=1, over_affine=True)).arrays["errors"]
    affine = compute(LeastSquaresForecast("affine-flow/coordinate", 1, "SGD", samples=1)).arrays["errors"]
    np.testing.assert_allclose(over, affine, rtol=1e-9)


def test_one_fit_serves_every_damping():
    tried = tuple(("affine-flow", "no", damping) for damping in ("cautious", "auto", "none"))
    options = {"optimizer": "SGD", "tests": ((2.0, 10),), "epochs": 2, "runs": 40}
    together = compute(NetworkTransfer(tried, **options)).arrays["errors"]
    alone = [compute(NetworkTransfer((one,), **options)).arrays["errors"][0] for one in tried]
    np.testing.assert_array_equal(together, alone)
    assert len(np.unique(together)) > 1  # they do differ


@cache
def ablation_errors(variant):
    data = "31 weights, Adam" if variant.startswith(("blind", "told")) else "3 weights, SGD"

    def sets(*names):
        return SimpleNamespace(weights=replicate_set(*names).weights[:, :61])

    def networks(*names):
        return small_networks(*names, runs=32, steps=60, width=3)

    with pytest.MonkeyPatch.context() as patch:  # fewer and shorter runs, of networks of 10 weights
        for name, smaller in (("SPLIT", (16, 8, 8)), ("replicate_set", sets), ("small_networks", networks)):
            patch.setattr(ablations, name, smaller)
        return compute(Ablation(variant, data, replicates=1, epochs=1)).arrays["errors"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.no_cover
def test_every_ablation_runs(variant):
    errors = ablation_errors(variant)
    assert np.isfinite(errors).all()
    if variant.startswith("blind"):
        assert (ablation_errors("told the optimizer") != errors).all()


def test_runs_at_a_falling_rate_and_at_another_fall():
    """The first step is that of the published recipe, the fitted runs are the same, the others stop half-way."""
    same, other, untold = (
        Ablation(variant, data)._parts(30) for variant, data in (
            ("whole model", OTHER_DATA[0]), ("whole model", OTHER_DATA[1]), ("schedule: not used", OTHER_DATA[0]))
    )
    assert [part.runs for part in same] == [100, 50, 50]
    np.testing.assert_array_equal(same[0].weights, other[0].weights)
    np.testing.assert_array_equal(same[2].weights[:, 0], other[2].weights[:, 0])
    later = other[2].weights[:, 100:]
    assert (later == later[:, :1]).all() and (same[2].weights[:, 150] != same[2].weights[:, 151]).all()
    assert same[2].meta["schedule"][100] == 0.5 and other[2].meta["schedule"][100] == 0
    assert all("schedule" not in part.meta and part.meta["lr"] == 0.004 for part in untold)


def test_samples_after_the_published_ones_share_nothing():
    published, sixth, seventh = (replicate_set(1, "SGD", n) for n in (2, 6, 7))
    np.testing.assert_array_equal(published.inputs, replicate_set(1, "SGD", 1).inputs)
    np.testing.assert_array_equal(published.weights, least_squares(1, "SGD", 2).weights)
    for part in ("inputs", "optima", "batches"):
        assert (getattr(sixth, part) != getattr(seventh, part)).any()
        assert (getattr(sixth, part) != getattr(published, part)).any()
    assert (sixth.weights[:, 0] != published.weights[:, 0]).all()


def test_unknown_names():
    with pytest.raises(UnknownNameError):
        make_forecaster("oracle", 20)
    with pytest.raises(UnknownNameError):
        compute(Ablation("no such part"))


@pytest.mark.parametrize("forecaster", ["ols", "mixer", "nino"])
@pytest.mark.no_cover
def test_the_cost_of_a_forecast_of_a_network(forecaster):
    """Also for forecasters that look at all weights together and take no part of them."""
    info = compute(ForecastCost(forecaster, epochs=1, repeats=1, steps=60)).info
    assert info["parameters"] > 0 and info["forecast"] > 0
    assert (info["operations"] is None) == (forecaster != "ols")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_work_takes_is_seen_though_it_is_freed():
    idle = grown(lambda: None)
    if idle is None:
        pytest.skip("this system does not let a process reset its peak")
    assert idle < 2e6 and 60e6 < grown(lambda: np.ones(8_000_000).sum()) < 80e6


@pytest.mark.no_cover
def test_variants_without_time_are_other_models():
    """The name says what is left out: with the same seed the forecasts differ from those with time."""
    for with_time, without in (("whole model", "time: not used"),
                               ("no memory: v(w, t)", "no memory, no time: v(w)")):
        errors = [ablation_errors(variant) for variant in (with_time, without)]
        assert np.isfinite(errors).all() and errors[0] != errors[1]
