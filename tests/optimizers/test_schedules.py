"""Named learning-rate schedules: their shape, their slope, names that there are not."""

import pytest

from gfm.errors import InputError, UnknownNameError
from gfm.optimizers import GradientDescent, schedules


def test_shapes_at_their_ends():
    assert schedules.named("constant", 0.3, 50) == 0.3
    rise, fall = schedules.named("warmup", 0.3, 50), schedules.named("cosine", 0.3, 50)
    assert [rise(t) for t in (0, 5, 10, 80)] == pytest.approx([0.03, 0.165, 0.3, 0.3])
    assert [fall(t) for t in (0, 25, 50, 80)] == pytest.approx([0.3, 0.165, 0.03, 0.03])
    drop = schedules.named("drop", 0.3, 51)
    assert [drop(t) for t in (0, 25, 26, 80)] == pytest.approx([0.3, 0.3, 0.15, 0.15])


@pytest.mark.parametrize("name", ["warmup", "cosine"])
def test_a_rule_knows_the_slope(name):
    """D log lr / dt off the corner of the warm-up, from the rates of the steps on both sides."""
    rule = GradientDescent(lr=schedules.named(name, 0.3, 50))
    assert all(rule.lr_at(t) > 0 for t in range(1, 70))
    slope = (rule.lr(6.0) - rule.lr(5.0)) / (0.75 * rule.lr(5.0) + 0.25 * rule.lr(6.0))
    assert rule.log_lr_slope(6.25) == pytest.approx(slope, rel=1e-12) and slope != 0


def test_a_drop_is_a_steep_slope_within_the_step_before_it():
    """The optimizer takes the whole rate in step 25; a flow's rate has begun to fall, evenly, by half in that step."""
    rule = GradientDescent(lr=schedules.named("drop", 0.4, 50))
    assert [rule.lr_at(t) for t in (24, 25, 25.5, 26, 40)] == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.2])
    assert [rule.log_lr_slope(t) for t in (24, 25, 25.5, 26)] == pytest.approx([0.0, -0.5, -2 / 3, 0.0])


@pytest.mark.parametrize("name", ["linear", None, 3])
def test_unknown_names_are_said(name):
    with pytest.raises(UnknownNameError, match="choose one of constant, warmup, cosine, drop"):
        schedules.named(name, 0.1, 10)


@pytest.mark.parametrize(("lr", "steps"), [(0.0, 10), (-1, 10), (float("nan"), 10), (0.1, 0), (0.1, 1.5)])
def test_impossible_values_are_refused(lr, steps):
    with pytest.raises(InputError):
        schedules.named("cosine", lr, steps)
