"""The rule by which a run is compared with its flow, on signals whose answers are known."""

import numpy as np
import pytest
from toys import FIRST, PERIOD, edge_run, tops

from gfm.central import Series
from gfm.errors import InputError
from gfm.measures import adaptive, flow, prediction
from gfm.measures import comparison as rule


def test_both_curves_are_averaged_by_one_kernel():
    # A Gaussian lifts a falling exponential by exp(window^2 / 2 / 100^2), 8 % here; on both sides it cancels.
    compared = rule.compare(edge_run(), PERIOD)
    assert flow.prediction_error(compared) < 1e-3
    bare = np.exp(-np.arange(601) / 100)
    one_sided = rule.smooth(edge_run()["discrete"].loss, PERIOD)[300] / bare[300]
    assert one_sided == pytest.approx(np.exp(PERIOD**2 / 2 / 100**2), rel=1e-2)
    assert flow.prediction_error(compared, predicted=False) == pytest.approx(0.2, rel=1e-2)


def test_the_same_steps_go_into_both_averages():
    seen, predicted = np.ones(200), np.ones(200)
    predicted[:50], seen[120:130] = np.nan, np.nan
    seen[:50] = 1e6  # before the prediction begins, and so in neither average
    first, second = rule.alike(seen, predicted, 10)
    assert np.nanmax(np.abs(first - second)) < 1e-12
    assert np.isnan(first[:50]).all() and np.isnan(second[120:130]).all() and np.isfinite(second[60:120]).all()


def test_the_average_of_what_is_constant_is_the_same_beside_gaps():
    values = np.full((120, 2), 3.0)
    values[50:58, 0], values[80, 1] = np.nan, np.nan
    smoothed = rule.smooth(values, 10)
    assert smoothed[20:-20] == pytest.approx(np.full((80, 2), 3.0))


def test_an_average_that_would_be_one_sided_is_never_given():
    smoothed = rule.smooth(np.ones(101), 10)
    assert np.isnan(smoothed[:20]).all() and np.isnan(smoothed[-20:]).all() and np.isfinite(smoothed[20:-20]).all()
    assert np.isnan(rule.smooth(np.ones(30), 10)).all()  # too short for any: nothing takes its place
    assert np.array_equal(rule.smooth(np.arange(3), 0), [0, 1, 2])


@pytest.mark.parametrize(("given", "taken"), [(5, PERIOD), (60, 60)])
def test_the_window_is_at_least_one_measured_cycle(given, taken):
    compared = rule.compare(edge_run(), given)
    assert compared.window == pytest.approx(taken, abs=1) and compared.judged
    with pytest.raises(InputError, match="positive number of steps"):
        rule.compare(edge_run(), 0)


def test_it_counts_from_the_runs_own_first_full_cycle():
    compared = rule.compare(edge_run(), 5)
    first = int(np.argmax(compared.counts))
    assert abs(first - (FIRST + PERIOD)) <= 2 and compared.counts[first:].all()
    late = edge_run()  # the flow is at the edge from the start, the run comes only at step FIRST
    late["central"]["eigenvalues"][:] = 2.0
    assert int(np.argmax(rule.compare(late, 5).counts)) == first


def test_what_is_too_short_is_not_judged_and_says_so():
    enough = FIRST + PERIOD + 4 * PERIOD
    assert rule.compare(edge_run(enough + 3), 5).judged
    short = rule.compare(edge_run(enough - 5), 5)
    assert not short.judged and "fewer than 4 windows" in short.why
    for value in (flow.prediction_error(short), flow.edge_level(short), prediction.loss_gap_share(short),
                  prediction.variance_correlation(short), adaptive.loss_lag(short)):
        assert np.isnan(value) and short.claim(value) == short.why  # words, which no bound admits
    assert len(flow.variance_ratio(short)) == 0 and np.isnan(flow.variance_total(short)).all()
    left = enough - 5 - FIRST
    assert short.shortage() == (
        f"its flow is at the edge for {left + 1} of {enough - 5} steps, {short.counts.sum()} of them after the "
        f"optimizer's first cycle; {4 * PERIOD} are needed")
    never = rule.compare(edge_run(FIRST + PERIOD - 5), 5)
    assert never.why == "the run has no full cycle at the edge" and "completes no cycle" in never.shortage()
    below = rule.compare(edge_run(eigenvalues=np.full((601, 1), 1.9)), 5)
    assert below.why == "the flow never comes to the edge" and below.shortage() == "its flow never comes to the edge"
    assert short.why in short.words() and short.if_judged("off by nan", "drawn") == "drawn"
    judged = rule.compare(edge_run(), 5)
    assert "standard deviation 40 steps; a cycle takes 40" in judged.words() and judged.if_judged("off") == "off"
    assert judged.claim(0.3) == 0.3 and short.claim(np.inf) == np.inf  # a flow that stopped has failed


def test_the_edge_has_an_upper_end_within_the_flows_own_band():
    top = np.full((601, 1), 2.0)
    top[50], top[51], top[52], top[53] = 5.8, 2.0 * (1 + 2e-4), 2.0 * (1 - 2e-4), 2.0 * (1 + 0.5e-4)
    run = edge_run(eigenvalues=top)
    assert rule.at_edge(run)[[50, 51, 52, 53]].tolist() == [False, False, False, True]
    assert rule.band(run) == 1e-4
    assert rule.band(edge_run(settings={"beta2": 0.99})) == 5e-4
    assert rule.band(edge_run(settings={"dtype": "float32"})) == 1e-3
    assert rule.band(edge_run(settings={"dtype": "float32", "band": 1e-4})) == 1e-4
    assert not rule.compare(edge_run(eigenvalues=np.full((601, 1), 5.8)), 5).judged
    assert flow.locked(edge_run(eigenvalues=np.tile([5.8, 2.0, 1.0], (601, 1))))[0] == 1


def test_the_longest_stretch_with_several_eigenvalues_at_the_edge_is_one_without_gaps():
    pairs = np.tile([2.0, 1.5], (601, 1))
    pairs[100:150, 1] = pairs[200:260, 1] = 2.0
    run = edge_run(eigenvalues=pairs)
    assert [flow.together(run, count) for count in (1, 2, 3)] == [601, 60, 0]


def test_slack_directions_are_masked_by_their_size():
    """A second direction of size 1e-20 swings as it likes and neither raises nor lowers any number."""
    run = edge_run()
    for name, size in (("sigma", 1e-20), ("displacement", 7.0)):
        first = run["central"][name]
        run["central"][name] = np.concatenate([first, np.full_like(first, size)], 1)
    compared = rule.compare(run, 5)
    assert flow.variance_ratio(compared) == pytest.approx([1.0], abs=0.01)
    assert prediction.variance_correlation(compared) > 0.999
    rare = edge_run()
    rare["central"]["sigma"][FIRST + 2 * PERIOD :] = np.nan  # it leaves after a few steps that count: too few
    assert len(flow.variance_ratio(rule.compare(rare, 5))) == 0


@pytest.mark.parametrize(("windows", "directions"), [(5.8, 1), (6.2, 2)])
def test_a_direction_is_compared_over_four_windows_of_averages(windows, directions):
    """There are none in the last two windows of a run; the other direction has been there from the start."""
    run = edge_run()
    other = np.where(np.arange(601) < FIRST, np.nan, 1.0)
    late = np.where(np.arange(601) < 601 - windows * PERIOD, np.nan, 1.0)
    run["central"]["sigma"] = np.stack([other, late], 1)
    run["central"]["displacement"] = np.stack([other, 3**0.5 * late], 1)
    assert len(flow.variance_ratio(rule.compare(run, 5))) == directions


def test_the_offset_is_what_does_not_alternate():
    """A swing of size 3 about a place 4 beside the flow: 16 of 25 of the squared displacement."""
    run = edge_run()
    swing = 3.0 * (-1.0) ** np.arange(601)[:, None]
    for beside, share in ((0.0, 0.0), (4.0, 0.64)):
        run["central"]["displacement"] = beside + swing
        assert flow.offset_share(rule.compare(run, 5)) == pytest.approx(share)
    assert np.isnan(flow.offset_share(rule.compare(edge_run(FIRST + PERIOD - 5), 5)))


def test_the_ratio_of_variances_is_one_of_means_over_time():
    """A swing of size 1 is held against a variance that grows evenly from 1 to 3, while it is judged."""
    t = np.arange(601)
    start, end = FIRST + PERIOD, 600 - 2 * PERIOD
    sigma = np.where(t < FIRST, np.nan, 1 + 2 * (t - start) / (end - start))[:, None]
    compared = rule.compare(edge_run(sigma=sigma, displacement=np.where(np.isnan(sigma), np.nan, 1.0)), 5)
    assert flow.variance_ratio(compared) == pytest.approx([1 / 2], abs=0.01)


def test_the_sum_over_directions_is_compared_whatever_each_of_them_is():
    """Two directions, three times and once the predicted variance of 1; the first counts from step 300 on."""
    run, start = edge_run(), 300
    late = np.where(np.arange(601) < start, np.nan, 1.0)
    other = np.where(np.arange(601) < FIRST, np.nan, 1.0)
    run["central"]["sigma"] = np.stack([other, late], 1)
    run["central"]["displacement"] = np.stack([other, 3**0.5 * late], 1)
    total, windows = flow.variance_total(rule.compare(run, 5))
    first, second = 601 - 2 * PERIOD - FIRST - PERIOD, 601 - 2 * PERIOD - start
    assert windows == pytest.approx(second / PERIOD, abs=2.1)  # two windows at its start may be missing
    assert 1 < total < (first + 3 * second) / (first + second) + 0.01


@pytest.mark.parametrize(("share", "directions"), [(0.02, 2), (0.005, 1)])
def test_a_direction_counts_from_a_hundredth_of_the_largest_variance_on(share, directions):
    run = edge_run()
    for name, size in (("sigma", share), ("displacement", share**0.5)):
        first = run["central"][name]
        run["central"][name] = np.concatenate([np.where(np.isnan(first), np.nan, 1.0), np.full_like(first, size)], 1)
    assert flow.variance_ratio(rule.compare(run, 5)) == pytest.approx([1.0] * directions)


def test_the_level_is_the_mean_over_the_locked_eigenvalues_also_at_midpoints():
    run = edge_run(eigenvalues=np.tile([2.0, 2.0, 1.2], (601, 1)))
    own = np.stack([tops(600) + 0.1, tops(600) - 0.1, np.full(601, 9.0)], 1)
    run["discrete"]["eigenvalues"] = own
    run.series["midpoint"] = Series({"loss": np.ones(601), "eigenvalues": own - 0.05})
    compared = rule.compare(run, 5)
    assert flow.edge_level(compared) == pytest.approx(2.0, abs=0.01)
    assert flow.edge_level(compared, "midpoint") == pytest.approx(1.95, abs=0.01)
    del run.series["central"]  # without a flow it is the largest, from the first full cycle on
    assert flow.edge_level(rule.compare(run, 5)) == pytest.approx(2.1, abs=0.01)


def test_a_distance_is_also_relative_to_the_way():
    run = edge_run()
    run.distances["discrete-central"] = np.linspace(0, 0.5, 601)
    with pytest.raises(InputError, match="keep_weights"):
        flow.distance_share(run)
    run["central"]["weights"] = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 9.0]], dtype=np.float32)
    assert flow.distance_share(run) == pytest.approx(0.05)


def test_a_statistic_over_cells_needs_half_of_them():
    assert rule.among([0.1, 0.3, np.nan, 0.2], max) == 0.3
    assert rule.among([0.1, np.inf, np.nan], max) == np.inf
    assert rule.among([0.1, np.nan], max) == 0.1
    assert rule.among([0.1, np.nan, np.nan], max) == "1 of 3 cells are long enough at the edge"
    assert rule.among([], max) == "0 of 0 cells are long enough at the edge"


def test_the_fall_of_the_loss_when_the_rate_drops_is_held_against_the_predicted_one():
    run = edge_run()
    drop = 400
    seen = rule.compare(run, 5)
    flow, t = run["central"], np.arange(601)
    flow["predicted_loss"] = np.where(t >= drop - 1, 1.0, 2.0)  # the flow's rate begins to fall one step before
    run["discrete"]["loss"] = np.where(t > drop, 1.0, 2.5)  # that step was reached at the old rate
    run["discrete"]["loss"][drop + 1 : drop + prediction.SOON] = 9.0  # the swing is still dying out
    run["discrete"]["loss"][[drop - 42, drop + 15]] = 99.0  # outside: the window is one cycle of 40 steps
    assert prediction.fall_ratio(seen, drop) == pytest.approx(1.5)
    assert np.isnan(prediction.fall_ratio(rule.compare(edge_run(120), 5), 60))  # not judged
    with pytest.raises(InputError, match="drop must be a whole number"):
        prediction.fall_ratio(seen, 400.0)
    flow["predicted_loss"] = run["discrete"]["loss"] = 601.0 - t
    judged = [prediction.fall_ratio(seen, step) for step in (40, 41, 586, 587)]  # 40 steps before, 15 after
    assert judged[1:3] == [1, 1] and np.isnan(judged[::3]).all()
    flow["predicted_loss"] = np.ones(601)
    assert np.isnan(prediction.fall_ratio(seen, drop))  # no fall is predicted
    flow["loss"][-1] = np.nan
    assert prediction.fall_ratio(seen, drop) == np.inf  # the flow stopped
