"""Damping of runs that slow faster than the fitted ones."""

from dataclasses import replace

import numpy as np
import pytest

from gfm import Trajectories
from gfm.errors import InputError
from gfm.matching import AffineFlow, Conditioning, Solver
from gfm.matching.damping import Damping, choose_damping, decline
from gfm.matching.shrinkage import Shrinkage, reaches

ENDS = Conditioning(context="ends")


def descents(rate, runs=60, parameters=3, seed=0, spread=0.1):
    """Exponential descents, each at its own rate around the given one."""
    rng = np.random.default_rng(seed)
    rates = rate * np.exp(spread * rng.normal(size=(runs, 1, 1)))
    end, start = rng.normal(size=(2, runs, 1, parameters))
    return Trajectories(end + (start - end) * np.exp(-rates * np.arange(101)[None, :, None]))


def fitted(**options):
    train, held = descents(0.02).split(40, 20)
    return AffineFlow(20, view="coordinate", **options).fit(train, validation=held)


def errors(model, data):
    wrong = np.square(model.forecast(data.prefix(20))[:, -1] - data.final).mean()
    return wrong / np.square(data.weights[:, 20] - data.final).mean()


def test_rate_of_an_exponential():
    squares = 7.0 * np.exp(-2 * np.array([[0.03], [0.2]]) * np.arange(20))
    np.testing.assert_allclose(decline(squares), [0.03, 0.2])
    assert decline(np.ones((1, 5))) == decline(np.exp(np.arange(5.0))[None])  # not slowing: the least


def test_gain_is_the_ratio_of_two_descents():
    gains = Damping(0.01).gains(np.array([0.05, 0.01, 0.002]), 180)
    known = (1 - np.exp(-0.05 * 180)) / 0.05 / ((1 - np.exp(-0.01 * 180)) / 0.01)
    assert gains[0, -1] == pytest.approx(known) and gains[0, 0] == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(gains[1:], 1.0)
    assert (np.diff(gains[0]) < 0).all()


def test_it_helps_where_runs_are_faster_than_the_fitted_ones():
    """The only difference is the rate; whatever is fitted, the undamped flow goes too far."""
    fast = descents(0.1, seed=1)
    ends = {"conditioning": ENDS}  # with all observed states the rate is seen already
    plain, damped = (errors(fitted(damping=d, **ends), fast) for d in ("none", "auto"))
    assert plain > 1 and damped < 0.5 * plain


def test_it_changes_little_where_runs_are_alike():
    alike = descents(0.02, seed=2)
    ends = {"conditioning": ENDS}
    plain, damped = (errors(fitted(damping=d, **ends), alike) for d in ("none", "auto"))
    assert damped < 1.1 * plain


def test_exact_forecasts_are_left_alone():
    """One common rate: regression is exact, and the smallest damping would spoil it."""
    data = descents(0.02, spread=0.0)
    train, held, test = data.split(30, 15, 15)
    model = AffineFlow(20, view="coordinate", damping="auto")
    model.fit(train, validation=held)
    assert errors(model, test) < 1e-20


def test_chunks_see_the_rate_of_the_whole_run():
    model = fitted(damping="auto", conditioning=ENDS)
    assert model.report.notes["damping"] in ("fast", "all")
    prefix = descents(0.1, runs=3, parameters=4000, seed=3).prefix(20)
    whole = model.forecast(prefix)
    model.options = replace(model.options, solver=Solver(memory=2**20))
    np.testing.assert_allclose(model.forecast(prefix), whole, rtol=0, atol=1e-12)


def test_reach_of_an_exponential():
    """Steps of length v e^{-r k}: in h more steps the sum of a geometric series, here as an integral."""
    k, r = np.arange(20), 0.05
    reach = reaches(np.exp(-2 * r * k)[None], 40)
    speed = np.sqrt(np.mean(np.exp(-2 * r * k[-5:])))
    np.testing.assert_allclose(reach, np.broadcast_to(
        speed * (1 - np.exp(-r * np.arange(1, 41))) / r, (2, 1, 40)))


def test_steps_that_do_not_shrink_reach_in_a_straight_line():
    np.testing.assert_allclose(reaches(4.0 * np.ones((1, 20)), 100)[0, 0], 2.0 * np.arange(1, 101), rtol=0.01)


def late():
    """(1, 20) squared steps of length 1, and from the tenth on declining at the rate 0.1."""
    return np.exp(-0.2 * np.maximum(np.arange(20.0) - 10, 0))[None]


def test_one_rate_is_that_of_the_last_half():
    speed, h = np.sqrt(late()[:, -5:].mean()), np.arange(1, 41)
    np.testing.assert_allclose(reaches(late(), 40)[1, 0], speed * (1 - np.exp(-0.1 * h)) / 0.1)


def test_the_shorter_of_the_two_expected_ways_counts():
    near, far = np.sort(reaches(late(), 30), axis=0)
    assert (near < 0.99 * far)[0, 5:].all()
    shrinkage = Shrinkage(np.ones((2, 30)))
    np.testing.assert_allclose(shrinkage.gains(late(), near), 1.0)
    np.testing.assert_allclose(shrinkage.gains(late(), far), (near / far) ** 2)


def test_beyond_the_fitted_horizon_the_last_share_is_used():
    shrinkage = Shrinkage(np.r_[np.ones(9), 0.25][None].repeat(2, axis=0))
    squares = np.exp(-0.1 * np.arange(20))[None]
    gains = shrinkage.gains(squares, reaches(squares, 15)[0])
    np.testing.assert_allclose(gains[0], np.r_[np.ones(9), np.full(6, 1 / 16)])


@pytest.mark.parametrize(("fast", "every", "chosen"), [
    (1.04, 1.03, "fast"), (1.06, 1.0, "none"), (1.04, 0.9, "all"), (1.06, 0.9, "all"), (0.8, 0.79, "fast"),
])
def test_which_runs_are_damped(fast, every, chosen):
    """Those faster than nine in ten unless it does harm; those faster than the median where that is clearly better."""
    rates, seen = np.linspace(0.01, 0.11, 101), []
    noise = 0.05 * (-1.0) ** np.arange(10)

    def errors(damping):
        seen.append(None if damping is None else round(damping.rate, 9))
        return {None: np.ones(10), 0.1: np.full(10, fast), 0.06: every + noise}[seen[-1]]

    name, damping = choose_damping(rates, errors)
    assert sorted(seen, key=str) == [0.06, 0.1, None] and name == chosen
    assert (damping and damping.rate) == {"none": None, "fast": pytest.approx(0.1), "all": pytest.approx(0.06)}[name]


def test_shrinkage_cuts_only_what_is_longer_than_expected():
    squares = np.exp(-0.1 * np.arange(20))[None].repeat(3, axis=0)
    shrinkage = Shrinkage.of(squares, 0.5 * reaches(squares, 30)[0])
    np.testing.assert_allclose(shrinkage.shares, 0.5)
    ways = np.array([[0.2], [0.5], [2.0]]) * reaches(squares, 30)[0]
    gains = shrinkage.gains(squares, ways)
    np.testing.assert_allclose(gains[0], 1.0)
    np.testing.assert_allclose(gains[1], 1.0, atol=1e-9)
    np.testing.assert_allclose(gains[2], 1 / 16)  # four times too long
    still = shrinkage.gains(np.zeros((1, 20)), np.ones((1, 30)))
    np.testing.assert_array_equal(still, 0.0)  # a run that stands is held


def test_caution_holds_runs_that_have_arrived():
    arrived = descents(0.6, seed=4)  # at the optimum by step 20, up to 1e-5
    options = {"conditioning": ENDS}
    bold, cautious = (errors(fitted(damping=d, **options), arrived) for d in ("none", "cautious"))
    assert bold > 100 and cautious < 0.01 * bold
    alike = descents(0.02, seed=2)
    assert errors(fitted(damping="cautious", **options), alike) < 0.5  # most of the way is kept


def test_chunks_are_cautious_about_the_whole_run():
    model = fitted(damping="cautious", conditioning=ENDS)
    prefix = descents(0.1, runs=3, parameters=4000, seed=3).prefix(20)
    whole = model.forecast(prefix)
    model.options = replace(model.options, solver=Solver(memory=2**20))
    np.testing.assert_allclose(model.forecast(prefix), whole, rtol=0, atol=1e-12)


def test_one_fit_serves_every_weaker_damping():
    model, fast = fitted(damping="cautious", conditioning=ENDS), descents(0.1, seed=1).prefix(20)
    for damping in ("none", "auto", "cautious"):
        alone = fitted(damping=damping, conditioning=ENDS)
        np.testing.assert_array_equal(model.with_damping(damping).forecast(fast), alone.forecast(fast))
    assert model.options.damping == "cautious"  # and the model itself is as it was
    np.testing.assert_array_equal(model.forecast(fast), alone.forecast(fast))
    for damping in ("cautious", "much"):
        with pytest.raises(InputError, match="damping"):
            model.with_damping("auto").with_damping(damping)
