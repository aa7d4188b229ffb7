"""Recording as networks are trained in practice: schedules, batch norm, dropout."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedulers

from gfm.errors import InputError
from gfm.forecasters import GradientFlowMatching
from gfm.forecasting.training import Training
from gfm.matching.course import factors_of
from gfm.trajectories import OPTIMIZERS, Trajectories, record

generator = torch.Generator().manual_seed(2)
X = torch.randn(22, 3, dtype=torch.float64, generator=generator)
Y = torch.sin(X).sum(dim=1, keepdim=True)
options = {"lr": 0.02, "runs": 3, "steps": 9, "seed": 4}


def build():
    """Without a bias before the normalisation: its gradient would be rounding alone, which Adam turns into steps."""
    return nn.Sequential(nn.Linear(3, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 1)).double()


def with_dropout():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).double()


def same_start():
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.3)
    return net


def mean_square(outputs, targets):
    return (outputs - targets).square().mean()


def one_by_one(run, name="SGD", schedule=None, batches=None):
    """The states of a run in a plain loop, before every step and at the end."""
    torch.manual_seed(1_000_003 * 4 + run)
    module = build()
    cls, defaults, _ = OPTIMIZERS[name]
    optimizer = cls(module.parameters(), lr=0.02, **defaults)
    scheduler = schedule(optimizer) if schedule else None
    states = [{k: v.clone() for k, v in module.state_dict().items()}]
    for step in range(9):
        x, y = batches[step % len(batches)] if batches else (X, Y)
        optimizer.zero_grad()
        mean_square(module(x), y).backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
        states.append({k: v.clone() for k, v in module.state_dict().items()})
    return states


def holds(data, run, states):
    """Whether a recorded run has these states, running statistics included."""
    for step, state in zip(data.steps, [states[s] for s in data.steps], strict=True):
        found = data.state_dict(run, int(step))
        assert found.keys() == state.keys()
        for name, value in state.items():
            assert found[name].dtype == value.dtype
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, msg=f"{name} at step {step}")


SCHEDULES = {
    "step": lambda method: schedulers.StepLR(method, 2, gamma=0.3),
    "cosine": lambda method: schedulers.CosineAnnealingLR(method, 9),
    "lambda": lambda method: schedulers.LambdaLR(method, lambda step: min(1.0, step / 4)),
    "one-cycle": lambda method: schedulers.OneCycleLR(method, 0.1, total_steps=9, cycle_momentum=False),
    "two": lambda method: schedulers.SequentialLR(
        method, [schedulers.LinearLR(method, 0.1, total_iters=3), schedulers.ExponentialLR(method, 0.9)], [3]),
}


# -- running statistics and schedules ----------------------------------------------------------------
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_batch_norm_and_a_schedule_are_as_in_a_plain_loop(name):
    data = record(build, X, Y, mean_square, name, every=2, schedule=SCHEDULES["cosine"], **options)
    assert set(data.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert data.buffers["1.num_batches_tracked"].tolist() == [[0, 2, 4, 6, 8]] * 3
    for run in range(3):
        holds(data, run, one_by_one(run, name, SCHEDULES["cosine"]))
    module = build()
    data.load_into(module, run=1, step=6)
    assert module[1].num_batches_tracked == 6
    assert not np.shares_memory(data.buffers["1.running_mean"][:, 0], data.buffers["1.running_mean"][:, 1])


@pytest.mark.filterwarnings("ignore::UserWarning")  # SequentialLR uses a deprecated call of torch's own
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_stepped_as_torch_does_and_kept(name):
    data = record(build, X, Y, mean_square, schedule=SCHEDULES[name], **options)
    method = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.02)
    scheduler, rates = SCHEDULES[name](method), []
    for _ in range(9):
        rates.append(method.param_groups[0]["lr"])
        method.step()
        scheduler.step()
    np.testing.assert_allclose(factors_of(data) * data.meta["lr"], rates, rtol=1e-14)
    assert len(set(data.meta["schedule"])) > 2
    holds(data, 2, one_by_one(2, schedule=SCHEDULES[name]))


def test_gradient_flow_matching_knows_the_schedule():
    runs = record(build, X, Y, mean_square, schedule=SCHEDULES["cosine"], **{**options, "runs": 6, "steps": 12})
    model = GradientFlowMatching(3, view="coordinate", training=Training(epochs=2)).fit(runs)
    assert model.flow.scheduled and model.forecast(runs.prefix(3)).shape == (6, 9, runs.parameters)
    plain = record(build, X, Y, mean_square, **{**options, "runs": 6, "steps": 12})
    with pytest.raises(InputError, match="their schedule differ"):
        Trajectories.concat([runs, plain])
    del runs.meta["schedule"]
    with pytest.raises(InputError, match="fitted under a schedule"):
        model.forecast(runs.prefix(3))


@pytest.mark.parametrize(("schedule", "words"), [
    (lambda method: schedulers.ReduceLROnPlateau(method), "needs a metric"),
    (lambda method: schedulers.OneCycleLR(method, 0.1, total_steps=9), "'momentum' too"),
    (lambda method: schedulers.OneCycleLR(method, 0.1, total_steps=5, cycle_momentum=False), "fails within 9 steps"),
    (lambda method: schedulers.LambdaLR(method, lambda step: 1.0 - step), "at step 2 is -0.02"),
    (lambda method: schedulers.LambdaLR(method, lambda step: float("nan")), "at step 0 is nan"),
    (lambda method: method, "it made SGD"),
    (schedulers.StepLR(torch.optim.SGD([torch.zeros(1)], lr=1.0), 2), "must be a function"),
    (lambda method: 1 / 0, "division by zero"),
])
def test_schedules_that_cannot_be_used(schedule, words):
    with pytest.raises(InputError, match=words) as refused:
        record(build, X, Y, mean_square, "momentum", schedule=schedule, **options)
    assert str(refused.value).count("\n") == 0


def test_a_buffer_that_the_module_sets_anew():
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1).double()
            self.register_buffer("mean", torch.zeros(1, dtype=torch.float64))
            self.register_buffer("table", torch.ones(4))
            self.register_buffer("hidden", torch.zeros(1), persistent=False)

        def forward(self, x):
            out = self.layer(x)
            self.mean = 0.5 * self.mean + 0.5 * out.mean(0)
            return out - self.mean.detach()

    data = record(Mean, X, Y, mean_square, **options)
    torch.manual_seed(1_000_003 * 4)
    module = Mean()
    module(X)
    np.testing.assert_allclose(data.buffers["mean"][0, 1], module.mean.detach(), atol=1e-14)
    assert set(data.buffers) == {"mean", "table"} and data.buffers["table"].strides[1] == 0  # kept once
    data.load_into(module)


def test_modules_that_cannot_be_evaluated_side_by_side():
    def cumulative():
        return nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1, momentum=None)).double()

    for make, x, y in ((cumulative, X, Y), (build, X[:1], Y[:1])):  # statistics of a single example
        with pytest.raises(InputError, match="side by side: ") as refused:
            record(make, x, y, mean_square, **options)
        assert str(refused.value).count("\n") == 0


# -- dropout -----------------------------------------------------------------------------------------
def test_dropout_draws_other_masks_for_each_run_and_disturbs_nothing():
    before = torch.get_rng_state()
    one, two = (record(same_start, X, Y, mean_square, **options).weights for _ in range(2))
    assert (one == two).all() and torch.equal(torch.get_rng_state(), before)
    assert (one[:, 0] == one[0, 0]).all() and not (one[0, 1] == one[1, 1]).all()
    other = record(same_start, X, Y, mean_square, **{**options, "seed": 5}).weights
    assert (one[:, 0] == other[:, 0]).all() and not (one[:, 1] == other[:, 1]).all()
    still = record(lambda: same_start().eval(), X, Y, mean_square, **options).weights
    assert (still == still[0]).all()


def test_dropout_keeps_units_with_the_right_frequency():
    """The gradient of a linear unit is proportional to how often its mask keeps it: on average that of the mean net."""
    def unit():
        net = nn.Sequential(nn.Dropout(0.75), nn.Linear(1, 1, bias=False)).double()
        nn.init.zeros_(net[1].weight)
        return net

    x = torch.ones(4000, 1, dtype=torch.float64)
    data = record(unit, x, x, lambda outputs, targets: (outputs * targets).mean(), lr=1.0, runs=2, steps=1)
    np.testing.assert_allclose(data.weights[:, 1], -1.0, atol=0.15)  # five standard errors
