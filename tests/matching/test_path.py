"""The conditional path, by its formulas recomputed with the same seed."""

import pytest
import torch

from gfm.errors import InputError
from gfm.matching import IncrementPath

x0 = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
x1 = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def draws(path):
    return path.sample_location_and_conditional_flow(
        x0, x1, generator=torch.Generator().manual_seed(5)
    )


def test_on_the_grid_the_location_is_the_recorded_state():
    t, location, velocity = draws(IncrementPath())
    assert (t == 0).all() and (location == x0).all() and torch.equal(velocity, x1 - x0)


def test_the_linear_interpolant_and_its_noise():
    t, location, velocity = draws(IncrementPath("linear", noise=0.3, span=4))
    generator = torch.Generator().manual_seed(5)
    expected_t = torch.zeros(7, dtype=torch.float64).uniform_(generator=generator)
    e = torch.empty_like(x0).normal_(generator=generator)
    torch.testing.assert_close(t, expected_t)
    between = (1 - t[:, None]) * x0 + t[:, None] * x1
    torch.testing.assert_close(location, between + 0.3 * e)
    torch.testing.assert_close(velocity, (x1 - x0) / 4)


def test_a_given_time_is_used():
    path = IncrementPath("linear")
    _, location, _ = path.sample_location_and_conditional_flow(x0, x1, torch.full((7,), 0.25).double())
    torch.testing.assert_close(location, 0.75 * x0 + 0.25 * x1)


def test_bad_paths():
    for options in ({"within": "spline"}, {"noise": -1.0}, {"span": 0}):
        with pytest.raises(InputError):
            IncrementPath(**options)
    with pytest.raises(InputError):
        IncrementPath().sample_location_and_conditional_flow(x0, x1[:3])
