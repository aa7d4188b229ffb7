"""Measures of the optimizer at the edge and of the flow's predictions, on series with known answers."""

import numpy as np
import pytest

from gfm import store
from gfm.central import Run, Series
from gfm.errors import InputError, UnknownNameError
from gfm.experiments.central.atlas import atlas, cell
from gfm.measures import edge
from gfm.measures import flow as measures
from gfm.measures import prediction as predictions
from gfm.measures.comparison import compare

WINDOW = 5


def lockstep(discrete: dict, central: dict | None = None, threshold: float = 2.0) -> Run:
    series = {"discrete": Series(discrete)} | ({"central": Series(central)} if central else {})
    return Run(series, {}, {"threshold": threshold, "lr": 0.1}, {})


def sawtooth(steps: int = 400, period: int = 100) -> np.ndarray:
    """Rises from 1 to the edge at step 100, then a triangle of height 0.2 around 2, with a jitter of period two."""
    t = np.arange(steps + 1)
    wave = 2.0 + 0.2 * np.sin(2 * np.pi * (t - 100) / period) + 0.05 * (-1.0) ** t
    return np.where(t < 100, 1.0 + t / 100, wave)


def test_crossings_are_counted_without_the_jitter():
    found = edge.crossings(lockstep({"loss": np.zeros(401), "eigenvalues": sawtooth()[:, None]}))
    assert len(found) == 6  # every 50 steps from 100 on; the last, at 400, is not complete
    assert np.abs(found - np.arange(100, 400, 50)).max() <= 2


@pytest.mark.parametrize("top", [1.5, 2.0, 2.1])
def test_the_curvature_met_is_that_of_a_quadratic(top):
    x = (1.0 - top) ** np.arange(21)
    run = lockstep({"loss": 5 * top * x**2, "gradient_norm2": (10 * top * x) ** 2})  # lr 0.1, sharpness 10 top
    counts = np.arange(21) > 3
    assert edge.curvature_met(run, counts) == pytest.approx(top)
    assert np.isnan(edge.curvature_met(run, np.arange(21) == 3))


def test_the_first_cycle_starts_from_below():
    run = lockstep({"loss": np.zeros(401), "eigenvalues": sawtooth()[:, None]})
    found = edge.first_cycle(run)
    assert abs(found.above - 100) <= 2 and abs(found.below - 150) <= 2 and abs(found.again - 200) <= 2
    late = lockstep({"loss": np.zeros(291), "eigenvalues": sawtooth()[110:, None]})
    assert abs(edge.first_cycle(late).above - 90) <= 2  # step 200 of the whole
    slow = np.concatenate([sawtooth(199, 200), sawtooth(400)[100:]])  # a first half wave of twice the length
    assert edge.cycle_length(lockstep({"loss": slow, "eigenvalues": slow[:, None]})) == pytest.approx(100, abs=2)
    assert edge.first_cycle(lockstep({"loss": np.zeros(51), "eigenvalues": sawtooth()[:51, None]})) is None


def test_small_fluctuations_around_the_edge_are_no_cycles():
    values = sawtooth(1000)
    t = np.arange(1001)
    settled = np.where(t < 300, values, 2.0 + 0.015 * np.sin(2 * np.pi * t / 7))
    settled[600:] = values[600:]
    run = lockstep({"loss": np.zeros(1001), "eigenvalues": settled[:, None]})
    assert len(edge.crossings(run)) > 50  # it goes up and down through 2 all the time
    found = edge.cycles(run)
    assert [c.above for c in found] == pytest.approx([100, 200, 600, 700, 800], abs=5)
    assert edge.cycle_length(run) == pytest.approx(100, abs=5)


def test_measurements_may_be_sparse():
    values = sawtooth(800)[:, None].copy()
    values[np.arange(801) % 3 != 0] = np.nan
    run = lockstep({"loss": np.zeros(801), "eigenvalues": values})
    steps, top = edge.measured_top(run)
    assert (steps % 3 == 0).all() and np.isfinite(top).all()
    assert abs(edge.cycle_length(run) - 100) <= 3 and abs(measures.edge_level(compare(run, 10)) - 2.0) < 0.01


def test_the_edge_is_at_two_whatever_the_threshold():
    run = lockstep({"loss": np.zeros(401), "eigenvalues": 1.9 * sawtooth()[:, None]}, threshold=3.8)
    assert edge.cycle_length(run) == pytest.approx(100, abs=1)
    assert edge.sharpening(run) == pytest.approx(2.0, abs=0.1)


def test_a_run_that_never_reaches_the_edge_sharpens_to_its_end():
    run = lockstep({"loss": np.zeros(101), "eigenvalues": np.linspace(1.0, 1.5, 101)[:, None]})
    assert edge.sharpening(run) == pytest.approx(1.5)


def swinging(steps: int = 200) -> Run:
    """Flow: one eigenvalue at the edge from step 50, a second from 100. Optimizer: swings of known size around it."""
    t = np.arange(steps + 1)
    sign = (-1.0) ** t
    first, second = t >= 50, t >= 100
    sigma = np.stack([np.where(first, 0.04, np.nan), np.where(second, 0.01, np.nan)], 1)
    values = np.stack([np.where(first, 2.0, 1.5), np.where(second, 2.0, 1.2)], 1)
    swing = np.sqrt(np.nan_to_num(sigma))
    central = {
        "loss": np.full(steps + 1, 1.0),
        "gradient_norm2": np.full(steps + 1, 0.5),
        "eigenvalues": values,
        "sigma": sigma,
        "displacement": np.where(np.isfinite(sigma), sign[:, None] * swing, np.nan),
        "outputs": np.stack([t / steps, 1 - t / steps], 1),
        "complementarity_gap": np.where(first, 1e-12, np.nan),
    }
    seen = values.copy()
    seen[50:, 0] += 0.1 * np.sin(2 * np.pi * (t[50:] - 50) / 8 + 0.3)
    discrete = {
        "loss": np.where(first, 1.25, 1.0),
        "gradient_norm2": np.full(steps + 1, 10.0),
        "eigenvalues": seen,
        "outputs": central["outputs"] + 0.1 * sign[:, None],
    }
    return lockstep(discrete, central)


def test_rank_follows_the_locked_eigenvalues():
    run = swinging()
    assert measures.rank(run).tolist() == measures.locked(run).tolist()
    assert predictions.rank_agreement(run) == 1.0
    run["central"]["eigenvalues"][150:, 1] = 1.9  # one leaves, its variance stays: no longer right
    assert predictions.rank_agreement(run) == pytest.approx(150 / 201)


def test_the_settled_excess_leaves_out_the_arrival():
    run = swinging()
    run["central"]["eigenvalues"][55, 0] = 2.02
    assert predictions.settled_excess(run, after=20) == pytest.approx(0.0)
    assert predictions.settled_excess(run, after=0) == pytest.approx(0.01)


def test_predictions_on_swings_of_known_size():
    run = swinging()
    compared = compare(run, WINDOW)
    assert compared.judged and compared.window == 8
    assert predictions.loss_gap_share(compared) == 1.0
    assert predictions.own_gradient_share(compared) == pytest.approx(0.05)
    assert predictions.output_error(compared) < 1e-3
    assert predictions.variation_ratio(compared) == pytest.approx(0.2 * 200, rel=0.05)
    assert predictions.largest_gap(run) == pytest.approx(1e-12)
    assert predictions.variance_correlation(compared) > 0.95
    assert measures.variance_ratio(compared) == pytest.approx([1.0, 1.0], abs=1e-6)


def test_the_own_gradient_is_that_of_the_last_half():
    run = swinging(800)
    steps = np.flatnonzero(compare(run, WINDOW).counts)
    run["central"]["gradient_norm2"][: steps[int(0.6 * len(steps))]] = 5.0  # more than half, but most of it early
    assert predictions.own_gradient_share(compare(run, WINDOW)) == pytest.approx(0.05)


def test_a_hundred_steps_are_enough_for_a_correlation():
    compared = compare(swinging(150), WINDOW)
    assert compared.judged and compared.counts.sum() < 100
    assert predictions.variance_correlation(compared) > 0.95


def test_cells_suit_their_network():
    assert cell("lstm", lr=0.1)["data"] == "sorting"
    assert cell("cnn", hidden=[8])["hidden"] == [8] and cell("cnn")["data"] == "digits"
    assert cell("vit", data="cifar10")["data"] == "cifar10"
    with pytest.raises(InputError, match="no parameter 'rate'"):
        atlas(store.obtain, {"cnn": {"lr": [0.1], "rate": 1}})
    with pytest.raises(UnknownNameError):
        cell("perceptron")
    with pytest.raises(InputError, match="list of learning rates"):
        atlas(store.obtain, {"cnn": {"lr": 0.1}})


def test_before_the_edge_the_largest_distance_is_held_against_the_paths_length():
    steps = 20
    top = np.where(np.arange(steps + 1) < 10, 1.0, 2.0)[:, None]
    run = lockstep(
        {"loss": np.ones(steps + 1)},
        {"loss": np.ones(steps + 1), "eigenvalues": top, "gradient_norm2": np.full(steps + 1, 4.0)}
    )
    apart = {"stable-central": np.linspace(0, 0.4, steps + 1), "discrete-central": np.linspace(0, 0.2, steps + 1)}
    run.distances.update(apart)
    run.series["stable"] = run.series["discrete"]
    assert measures.apart_before_edge(run) == pytest.approx(apart["stable-central"][9] / (0.1 * 2 * 10))
    top[:] = 1.0
    assert np.isnan(measures.apart_before_edge(run))  # never at the edge


def test_a_flow_that_stopped_bounds_nothing():
    loss = np.r_[np.ones(10), np.full(5, np.nan)]
    run = lockstep({"loss": np.ones(15)}, {"loss": loss, "predicted_loss": loss, "eigenvalues": np.full((15, 1), 1.5)})
    assert measures.stopped(run)
    assert measures.largest_rise(run) == measures.prediction_error(compare(run, 2)) == np.inf
    assert measures.flow_excess(run)[0] == np.inf

    steep = lockstep({"loss": np.ones(15)}, {"loss": np.ones(15), "eigenvalues": np.full((15, 1), 2.5)})
    assert measures.flow_excess(steep)[0] == np.inf  # beyond the edge throughout

    settling = np.r_[2.5, 2.01, 2.0012, np.full(10, 2.0008), 2.0016, 1.9][:, None]
    sigma = np.r_[np.ones(14), 0.0][:, None]
    flow = {"loss": np.ones(15), "eigenvalues": settling, "sigma": sigma}
    found = measures.flow_excess(lockstep({"loss": np.ones(15)}, flow))
    assert found[0] == pytest.approx(0.0008)  # what comes before its arrival does not count, all that follows does
    assert found[1] == pytest.approx((0.0012 + 10 * 0.0008 + 0.0016) / 12)  # while it swings; at the end it does not
    settling[3:13] = 1.9992
    found = measures.flow_excess(lockstep({"loss": np.ones(15)}, flow))
    assert found == pytest.approx((0.0008, abs(0.0012 - 10 * 0.0008 + 0.0016) / 12))  # below the edge is off it too


def test_a_swing_has_the_sign_of_its_largest():
    swing = np.array([np.nan, 1.0, -3.0, 2.0])
    assert np.array_equal(measures.upright(swing), -swing, equal_nan=True)
    assert np.array_equal(measures.upright(-swing), -swing, equal_nan=True)
    assert np.isnan(measures.upright(np.full(3, np.nan))).all()


def test_a_flow_far_beyond_the_edge_is_not_at_it():
    values = np.array([[1.5, 1.0], [2.0001, 1.2], [2.03, 2.0], [5.8, 2.0], [2.0, 2.05]])
    run = lockstep({"loss": np.zeros(5)}, {"loss": np.zeros(5), "eigenvalues": values})
    assert measures.at_edge(run).tolist() == [False, True, False, False, True]
    assert measures.locked(run).tolist() == [0, 1, 1, 1, 1]
