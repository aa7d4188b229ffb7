"""Training runs with jumps, averages and outer steps: their formulas, and that each rule runs in small."""

import numpy as np
import pytest
import torch
from test_learned import compute

from gfm.experiments.learned.image_tasks import task
from gfm.experiments.learned.nowcast_run import Averaged, Jumps, Outer, TrainingRun
from gfm.experiments.learned.nowcasting import Nowcasting
from gfm.experiments.learned.schedule_free import ScheduleFree
from gfm.nowcasting import Nowcaster

SHORT = {"seeds": 1, "most": 44, "fitted_runs": 1, "fitted_steps": 120, "epochs": 1}


@pytest.mark.no_cover
def test_nowcasting_runs_and_without_forecaster_never_jumps():
    plain = compute(Nowcasting("none", **SHORT)).arrays
    assert plain["looks"].sum() == 0 and np.isnan(plain["steps"]).all()  # 44 steps do not reach the threshold
    numbers = {}
    for name in ("linear-ends", "affine-flow", "gfm", "affine-flow-blind", "gfm-blind"):
        result = compute(Nowcasting(name, period=24, ahead=(2, 5), **SHORT))
        jumping, numbers[name] = result.arrays, result.info["parameters"]
        assert jumping["looks"].sum() == 1
        assert jumping["at"].shape == (1, 3, 2, 2) and np.isfinite(jumping["at"]).all()
        assert result.info["title"].endswith(", blind") == name.endswith("-blind")
        assert result.info["epochs"] == int(name.startswith("gfm"))
    assert all(numbers[f"{name}-blind"] < numbers[name] for name in ("affine-flow", "gfm"))  # fewer inputs


@pytest.mark.no_cover
def test_the_tuned_flow_lowers_the_loss_more_than_the_fitted_one_and_its_work_is_counted():
    options = SHORT | {"ahead": (6,), "stride": 2, "gate": 0, "fitted_steps": 160}
    tuning = {"rounds": 1, "tuning_steps": 60, "played_runs": 1, "played_steps": 80}
    fitted, tuned = (compute(Nowcasting(name, **options, **tuning)) for name in ("layerwise-flow", "loss-tuned"))
    at = [result.arrays["at"][0, :, 0, 0] for result in (fitted, tuned)]  # held, forecast, trained
    assert at[1][1] < at[0][1] and at[1][1] < at[1][0]
    assert fitted.info["fit_steps"] == 160 and tuned.info["fit_steps"] == 160 + 80 + 2 * 60 * 2
    assert tuned.arrays["jumps"].sum() == tuned.arrays["looks"].sum() > 0  # no gate
    assert tuned.info["parameters"] == fitted.info["parameters"] > 100


@pytest.mark.parametrize(
    ("method", "settings"),
    [("decay", (44,)), ("schedule-free", (2.0,)), ("ema", (5,)), ("lawa", (4,)), ("lookahead", (5, 0.5)),
     ("snoo", (5, 0.7, 0.5)), ("extra-merge", (1.0,)), ("line-search", (0.0, 2.0))],
)
def test_every_rule_that_learns_nothing_reaches_an_easy_loss(method, settings):
    result = compute(Nowcasting(method, settings, lr=0.02, threshold=2.0, gate=64, **SHORT))
    assert np.isfinite(result.arrays["steps"]).all() and result.info["title"]
    assert result.arrays["cost"] >= result.arrays["steps"]


def run_after(steps, lr=3e-3, seed=0, **options):
    run = TrainingRun(task(), lr, seed, **options)
    for _ in range(steps):
        run.step()
    return run


def test_an_average_is_that_of_the_weights_and_leaves_training_alone():
    run, moving, window = TrainingRun(task(), 3e-3, 0), Averaged(4, moving=True), Averaged(3, moving=False)
    seen, mean = [], None
    for _ in range(6):
        run.step()
        seen.append(run.flat())
        mean = seen[-1] if mean is None else 0.75 * mean + 0.25 * seen[-1]
        for average in (moving, window):
            average.after_step(run)
    torch.testing.assert_close(moving.evaluated(run), mean)
    torch.testing.assert_close(window.evaluated(run), torch.stack(seen[-3:]).mean(0))
    assert torch.equal(run.flat(), run_after(6).flat())
    here = run.test()
    assert run.test(mean) != here and run.test() == here


def test_outer_steps_follow_their_formulas():
    """Lookahead: half of the way from the slow weights. SNOO: Nesterov's momentum on the displacements."""
    run = TrainingRun(task(), 3e-3, 0)
    start, outer = run.flat(), Outer(run, 2, 0.5)
    for _ in range(2):
        run.step()
        fast = run.flat()
        outer.after_step(run)
    torch.testing.assert_close(run.flat(), (start + fast) / 2)
    run = TrainingRun(task(), 3e-3, 0)
    outer, slow, buffer = Outer(run, 1, 0.7, 0.5), run.flat(), 0.0
    for _ in range(3):
        run.step()
        d = slow - run.flat()
        buffer = 0.5 * buffer + d
        slow = slow - 0.7 * (0.5 * buffer + d)
        outer.after_step(run)
        torch.testing.assert_close(run.flat(), slow)


def test_schedule_free_means_are_those_of_its_iterates():
    """On a linear loss the gradient is constant: every z goes by lr, x is the mean of the z, y between both."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = ScheduleFree([parameter], 0.1, weight_decay=0.0)
    for step in range(1, 5):
        parameter.grad = torch.tensor([1.0, 2.0, -1.0])
        optimizer.step()
        z = -0.1 * step * torch.tensor([1.0, 1.0, -1.0])
        x = z * (step + 1) / 2 / step
        torch.testing.assert_close(optimizer.averages()[0], x)
        torch.testing.assert_close(parameter.detach(), 0.1 * z + 0.9 * x)


def test_a_falling_rate_reaches_zero():
    run = run_after(10, decay=10)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(3e-4)
    here = run.flat()
    run.step()
    assert torch.equal(run.flat(), here)


def test_a_gate_keeps_what_is_better_and_nothing_else():
    run, offered = TrainingRun(task(), 3e-3, 0), []
    jumps = Jumps(Nowcaster(run.optimizer, run.net, lambda window: np.stack(offered), seen=2), rows=256)
    for _ in range(40):
        run.step()
    before, better = run.flat(), run.twin()
    while better.steps < 120:
        better.step()
    offered.append(np.zeros(len(before)))
    for _ in range(12):
        jumps.after_step(run)
    assert torch.equal(run.flat(), before) and jumps.nowcaster.looks == 1
    assert jumps.cost == pytest.approx(4 / 3)  # two passes, 256 images, a third of a step on 128
    offered.append(better.flat().numpy())
    for _ in range(12):
        jumps.after_step(run)
    assert torch.equal(run.flat(), better.flat()) and jumps.nowcaster.jumps == 1


def test_a_twin_goes_the_same_way_and_leaves_the_run_alone():
    run = run_after(1, seed=1)
    twin, before = run.twin(), run.flat()
    for _ in range(5):
        twin.step()
    assert torch.equal(run.flat(), before) and run.steps == 1
    for _ in range(5):
        run.step()
    assert torch.equal(run.flat(), twin.flat())
