"""The step-size control alone: accept, halve, take again."""

import math

import pytest

from gfm.central.control import Control

EDGE, INSIDE, BEYOND = 2.0, 2.0001, 2.01


def control():
    return Control(4, EDGE, 1e-4)


def test_a_substep_within_the_band_is_accepted():
    c = control()
    assert c.accept(INSIDE, 0.25) and c.dt == 0.25
    assert Control(4, EDGE, math.inf).accept(1e9, 0.25)


def test_a_substep_beyond_it_is_halved_and_a_quiet_step_lets_substeps_grow_again():
    c = control()
    assert not c.accept(BEYOND, 0.25) and c.dt == 0.125
    assert c.accept(INSIDE, 0.125)
    c.finish(grow=True)
    assert c.dt == 0.125  # not after a step that halved
    c.finish(grow=True)
    assert c.dt == 0.25


def test_a_large_excess_is_no_jump_and_shortens_substeps_as_far_as_they_may():
    c = control()
    for shrink in (2, 4, 8, 16):
        assert not c.accept(3.0, 0.25) and c.count == 4 * shrink
    c = control()
    for shrink in (1, 2, 4, 8, 16):
        assert c.take_again(3.0) and c.count == 4 * shrink
    assert not c.take_again(3.0)


def test_more_substeps_are_taken_where_they_are_required_and_never_fewer_than_at_the_start():
    c = control()
    c.require(38)
    assert c.count == 38 and not c.accept(BEYOND, 0.25) and c.count == 76
    c.require(1)
    assert c.count == 8


def test_an_excess_that_halving_does_not_reduce_widens_the_band_for_a_while():
    c, excess = control(), 2.003
    assert not c.accept(excess, 0.25)
    assert c.accept(excess, 0.125) and c.dt == 0.25  # a jump of the curvature
    assert c.accept(excess, 0.5)
    for _ in range(30):
        c.finish(grow=True)
    assert not c.accept(excess, 0.25)


@pytest.mark.parametrize(("steps", "accepted"), [(5, True), (10, False)])
def test_a_widened_band_narrows_by_half_in_about_seven_steps(steps, accepted):
    c, excess = control(), 0.003
    assert not c.accept(EDGE + excess, 0.25) and c.accept(EDGE + excess, 0.125)
    for _ in range(steps):
        c.finish(grow=True)
    assert c.accept(INSIDE + excess / 2, 0.25) == accepted


@pytest.mark.parametrize(("share", "accepted"), [(0.6, False), (0.8, True)])
def test_halving_goes_on_while_it_takes_away_a_good_part_of_the_excess(share, accepted):
    c, excess = control(), 0.01
    assert not c.accept(EDGE + excess, 0.25)
    assert c.accept(EDGE + share * excess, 0.125) == accepted  # what halving does not reduce is a jump


@pytest.mark.parametrize(("share", "accepted"), [(0.0195, True), (0.0205, False)])
def test_no_more_than_two_hundredths_of_the_edge_are_taken_for_a_jump(share, accepted):
    c = control()
    assert not c.accept(EDGE * (1 + share), 0.25)
    assert c.accept(EDGE * (1 + share), 0.125) == accepted


def test_a_small_jump_does_not_narrow_a_band_that_is_wide():
    c, excess = control(), 0.6
    while not c.accept(EDGE + excess, 0.25):
        excess /= 2  # each halving helps, until substeps are as short as they may be
    assert excess == 0.6 / 16
    c.finish(grow=True)
    assert not c.accept(EDGE + 0.038, 0.25) and c.accept(EDGE + 0.038, 0.125)  # a jump beside it
    assert c.accept(EDGE + 0.03, 0.25)


def test_substeps_do_not_shrink_without_end():
    c, excess = control(), 8.0
    while not c.accept(EDGE + excess, 0.25):
        excess /= 2  # each halving helps
    assert c.dt == 0.25 and c.accept(2.03, 0.25)


def test_a_step_is_taken_again_while_that_helps():
    c = control()
    assert not c.take_again(INSIDE)
    assert c.take_again(2.02) and c.dt == 0.25  # fresh eigenvectors first, at the same length
    assert c.take_again(2.01) and c.dt == 0.125
    assert not c.take_again(2.009) and c.dt == 0.25  # shorter ones did not help
    assert c.retaken == 2
    c.finish(grow=True)
    assert c.retaken == 0


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_it_goes_on_from_its_state(steps):
    c, resumed = control(), control()
    for _ in range(steps):
        c.accept(BEYOND, 0.25)
        c.finish(grow=True)
    resumed.load_state_dict(c.state_dict())
    assert vars(resumed) == vars(c)
