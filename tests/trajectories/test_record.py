"""Recording: side by side must be as alone, and every optimizer must be the one it is called."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm.errors import InputError, NumericalError, UnknownNameError
from gfm.trajectories import OPTIMIZERS, Trajectories, record
from gfm.trajectories.batches import Rows


def build():
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def mean_square(outputs, targets):
    return (outputs - targets).square().mean()


generator = torch.Generator().manual_seed(0)
X = torch.randn(5, 12, 1, dtype=torch.float64, generator=generator)
Y = X * torch.randn(5, 1, 1, dtype=torch.float64, generator=generator)
NAN = float("nan")
options = {"lr": 0.02, "runs": 5, "steps": 7, "seed": 3, "per_run": True}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_side_by_side_is_as_alone(name):
    together = record(build, X, Y, mean_square, name, **options)
    cls, defaults, _ = OPTIMIZERS[name]
    for run in (0, 4):
        torch.manual_seed(1_000_003 * 3 + run)
        module = build()
        optimizer = cls(module.parameters(), lr=0.02, **defaults)
        for step in range(7):
            flat = torch.cat([p.detach().flatten() for p in module.parameters()])
            np.testing.assert_allclose(together.weights[run, step], flat, rtol=0, atol=1e-14)
            optimizer.zero_grad()
            mean_square(module(X[run]), Y[run]).backward()
            optimizer.step()


def test_a_single_run_is_the_first_of_several():
    several, alone = (record(build, X[:runs], Y[:runs], mean_square, **options | {"runs": runs}) for runs in (5, 1))
    np.testing.assert_allclose(alone.weights, several.weights[:1], rtol=0, atol=1e-14)


def test_sgd_is_plain_and_momentum_is_heavy_ball():
    """The names were swapped in an earlier code: pin each to its rule."""
    plain = record(build, X, Y, mean_square, "SGD", **options).weights
    heavy = record(build, X, Y, mean_square, "momentum", states=True, **options)
    np.testing.assert_allclose(plain[:, 1], heavy.weights[:, 1])
    assert np.abs(plain[:, 3] - heavy.weights[:, 3]).max() > 1e-4
    steps = np.diff(heavy.weights, axis=1)
    np.testing.assert_allclose(steps, -0.02 * heavy.states["momentum"][:, 1:], atol=1e-12)
    adam = record(build, X, Y, mean_square, "Adam", **options).weights
    np.testing.assert_allclose(np.abs(np.diff(adam, axis=1)[:, 0]), 0.02, rtol=1e-4)


def test_a_schedule_need_say_no_more_than_one_rate_for_each_step():
    factors = [1.0, 0.5, 0.25, 0.5, 1.0, 2.0, 1.0]
    data = record(build, X, Y, mean_square, "SGD", **options,
                  schedule=lambda method: torch.optim.lr_scheduler.LambdaLR(method, factors.__getitem__))
    assert data.meta["schedule"] == pytest.approx(factors)


def test_options_of_the_optimizer_may_be_switches():
    plain, nesterov = (record(build, X, Y, mean_square, "momentum", nesterov=on, **options) for on in (False, True))
    assert not np.allclose(plain.weights, nesterov.weights)


def test_mini_batches_cover_an_epoch_and_are_seeded():
    full = record(build, X, Y, mean_square, "SGD", batch=12, **options)
    assert (full.weights == record(build, X, Y, mean_square, "SGD", **options).weights).all()
    one, two = (record(build, X, Y, mean_square, "SGD", batch=8, **options) for _ in range(2))
    assert (one.weights == two.weights).all() and (one.weights != full.weights).any()
    shared = record(build, X[0], Y[0], mean_square, "SGD", batch=8, **options | {"per_run": False})
    assert shared.weights.shape == (5, 8, 13)


def test_an_epoch_visits_every_example_once_in_an_order_of_each_run():
    batches = Rows(10, 4, 3, seed=0)
    epochs = [torch.cat([batches.next() for _ in range(3)], dim=1) for _ in range(2)]
    for rows in epochs:
        assert (rows.sort(dim=1).values == torch.arange(10)).all()
    assert (epochs[0] != epochs[1]).any() and (epochs[0][0] != epochs[0][1]).any()


def test_every_keeps_some_states_and_everything_survives_the_disk(tmp_path):
    data = record(build, X, Y, mean_square, "Adam", every=3, states=True, **options)
    assert data.steps.tolist() == [0, 3, 6] and set(data.states) == {"momentum", "second"}
    back = Trajectories.load(data.save(tmp_path / "runs"))
    assert (back.states["second"] == data.states["second"]).all() and back.meta == data.meta
    assert back.groups == data.groups and data.groups[0] == "0.weight"
    assert (data[1:3].prefix(1).states["second"] == data.states["second"][1:3, :2]).all()


def test_bad_requests():
    with pytest.raises(UnknownNameError):
        record(build, X, Y, mean_square, "Lion")
    for bad in ({"lr": 0.0}, {"lr": NAN}, {"lr": 10**400}, {"momentum": NAN}, {"weight_decay": NAN}, {"runs": 0},
                {"runs": NAN}, {"steps": NAN}, {"batch": 0}, {"batch": NAN}, {"every": 0}, {"every": NAN},
                {"checkpoint_every": NAN}, {"seed": 2**70}, {"seed": 2**63}, {"seed": NAN}):
        with pytest.raises(InputError, match=next(iter(bad))):
            record(build, X, Y, mean_square, **{**options, **bad})
    with pytest.raises(NumericalError):
        record(build, X, Y, mean_square, "SGD", **{**options, "lr": 1e6, "steps": 400})
    with pytest.raises(InputError, match="states"):
        Trajectories(np.zeros((2, 3, 4)), states={"second": np.zeros((2, 3, 5))})


def test_states_at_given_steps():
    whole = record(build, X, Y, mean_square, "Adam", states=True, **options)
    some = record(build, X, Y, mean_square, "Adam", every=[6, 1, 2], states=True, **options)
    assert some.steps.tolist() == [0, 1, 2, 6]
    assert (some.weights == whole.weights[:, [0, 1, 2, 6]]).all()
    assert (some.states["second"] == whole.states["second"][:, [0, 1, 2, 6]]).all()
    for bad in ([], [0], [8], [-1, 2], [1.5]):
        with pytest.raises(InputError, match="every"):
            record(build, X, Y, mean_square, every=bad, **options)
