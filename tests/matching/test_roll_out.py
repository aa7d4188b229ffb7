"""The correction's own solver: a few evaluations of the network for all steps of the forecast."""

import pytest
import torch

from gfm.matching import Solver
from gfm.matching.correction import MARKS, correction_states, knots
from gfm.matching.field import CorrectionField


def step_by_step(field, context, kappa, horizon, until):
    """y_{k+1} = (1 - kappa) y_k + u(y_k, k / horizon, c) / horizon, the network at every step."""
    y, states = torch.zeros(len(context)), []
    for k in range(until):
        y = (1 - kappa) * y + field(y, torch.full((len(context),), k / horizon), context) / horizon
        states.append(y)
    return torch.stack(states, dim=1)


def field_of(seed, scale):
    torch.manual_seed(seed)
    field = CorrectionField(3, (16,), seed=seed)
    with torch.no_grad():
        field.net[-1].weight.normal_(0, scale)
        field.net[-1].bias.normal_(0, scale)
    return field.requires_grad_(False)


class Constant(torch.nn.Module):
    def forward(self, y, t, c):
        return c[:, 0]


@pytest.mark.parametrize("kappa", [0.0, 0.02, 0.4])
def test_a_constant_field_is_solved_exactly_at_the_knots(kappa):
    context = torch.randn(7, 3)
    exact = step_by_step(Constant(), context, kappa, 180, 180)
    found = correction_states(Constant(), context, kappa, 180, 180)
    stride = 180 // (2 * MARKS)
    assert torch.allclose(found[:, stride - 1 :: stride], exact[:, stride - 1 :: stride], atol=1e-5)


@pytest.mark.parametrize("until", [5, 60, 180, 300])
def test_the_states_are_those_of_the_network_at_every_step(until):
    field, context = field_of(0, 0.5), torch.randn(50, 3)
    exact = step_by_step(field, context, 0.01, 180, until)
    found = correction_states(field, context, 0.01, 180, until)
    assert found.shape == exact.shape
    scale = exact.abs().max()
    assert (found - exact).abs().max() < 0.05 * scale
    finer = correction_states(field, context, 0.01, 180, until, Solver(substeps=8))
    if until > 20:
        assert (finer - exact).abs().max() < 0.5 * (found - exact).abs().max()


def test_the_network_is_evaluated_a_few_times_only():
    calls = []

    class Counted(torch.nn.Module):
        def forward(self, y, t, c):
            calls.append(len(y))
            return torch.zeros_like(y)

    correction_states(Counted(), torch.randn(4, 3), 0.1, 180, 180)
    assert len(calls) == knots(180, 180) == 20
    assert knots(180, 9) == 1 and knots(5, 5) == 5 and knots(20, 200) == 200


@pytest.mark.parametrize("time", [True, False])
def test_whether_the_field_sees_the_time(time):
    torch.manual_seed(0)
    field = CorrectionField(3, (16,), state=False, time=time)
    torch.nn.init.normal_(field.net[-1].weight)
    y, context = torch.zeros(9), torch.randn(9, 3)
    early, late = (field(y, torch.full((9,), share), context) for share in (0.1, 0.8))
    assert torch.equal(early, late) == (not time)
