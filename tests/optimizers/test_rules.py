"""Update rules: against torch's own, and their rates against differences."""

import numpy as np
import pytest
import torch
from toys import tiny_net, tiny_problem

from gfm.errors import InputError
from gfm.optimizers import Adam, GradientDescent, HeavyBall, Nesterov, RMSProp, ScalarRMSProp, State, available

PAIRS = {
    "gd": (GradientDescent(lr=0.1), lambda q: torch.optim.SGD(q, lr=0.1)),
    "heavy ball": (HeavyBall(lr=0.1, momentum=0.9), lambda q: torch.optim.SGD(q, lr=0.1, momentum=0.9)),
    "nesterov": (Nesterov(lr=0.1, momentum=0.9), lambda q: torch.optim.SGD(q, lr=0.1, momentum=0.9, nesterov=True)),
    "rmsprop": (
        RMSProp(lr=1e-3, beta2=0.95, eps=1e-6), lambda q: torch.optim.RMSprop(q, lr=1e-3, alpha=0.95, eps=1e-6)
    ),
    "adam": (Adam(lr=1e-2, beta2=0.99), lambda q: torch.optim.Adam(q, lr=1e-2, betas=(0.9, 0.99))),
}
RULES = [r for r, _ in PAIRS.values()] + [
    ScalarRMSProp(lr=0.01, beta2=0.9),
    ScalarRMSProp(lr=0.01, beta2=0.9, eps=0.1, bias_correction=True),
    RMSProp(lr=lambda t: 0.01 / (1 + 0.1 * t), beta2=0.9, eps=1e-4, bias_correction=True),
    GradientDescent(lr=lambda t: 0.1 * 0.99**t),
]


@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps_equal_those_of_torch(name):
    rule, make = PAIRS[name]
    problem, module = tiny_problem(), tiny_net()
    optimizer = make(module.parameters())
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(20):
        gradient = problem.flat.views(problem.gradient(problem.flat.flatten(module)))
        for parameter, g in zip(module.parameters(), gradient.values(), strict=True):
            parameter.grad = g.clone()
        optimizer.step()
        gradient = problem.gradient(w)
        state = rule.update(state, gradient)
        w = rule.step(w, state, gradient)
    assert torch.allclose(w, problem.flat.flatten(module), atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_the_rate_of_the_preconditioner_is_its_derivative(rule):
    problem = tiny_problem()
    state = rule.init(problem.w0)
    for _ in range(5):
        state = rule.update(state, problem.gradient(problem.w0))
    g = 2 * problem.gradient(problem.w0)
    rates = rule.rates(state, g)
    h = 1e-5  # forward: a schedule has a corner at every step
    here, ahead, further, found = (
        torch.as_tensor(value, dtype=torch.float64)
        for value in (
            *(rule.preconditioner(state.moved(rates, dt)) for dt in (0.0, h, 2 * h)),
            rule.preconditioner_rate(state, rates),
        )
    )
    expected = (4 * ahead - 3 * here - further) / (2 * h)
    assert torch.allclose(found.expand_as(expected), expected, rtol=1e-4, atol=1e-6 * float(ahead.max()))


def test_a_flow_unit_moves_the_average_as_a_step_does():
    """(1 - beta2) / beta2: with the gradient held, the post-update average moves at this rate."""
    rule = ScalarRMSProp(lr=0.01, beta2=0.9)
    g = tiny_problem().gradient(tiny_problem().w0)
    state = rule.update(rule.init(g), 3 * g)
    after = rule.update(state, g)
    rate = rule.rates(after, g).nu
    assert torch.allclose(after.nu - state.nu, rate)


def test_a_schedule_is_asked_for_the_number_of_steps_before():
    rule = GradientDescent(lr=lambda t: 0.1 / (1 + t))
    assert [rule.lr_at(t) for t in (0.0, 1.0, 2.0, 5.0)] == [0.1, 0.1, 0.05, 0.02]
    one = torch.ones(1, dtype=torch.float64)
    assert rule.step(one, rule.update(rule.init(one), one), one).item() == pytest.approx(0.9)


def test_between_steps_a_schedule_is_linear_however_it_jumps():
    rule = GradientDescent(lr=lambda t: 0.1 + 0.1 * int(t))
    assert [rule.lr_at(t) for t in (2.0, 2.25, 3.0)] == pytest.approx([0.2, 0.225, 0.3])
    assert [rule.log_lr_slope(t) for t in (2.0, 2.5, 3.0 - 1e-12)] == pytest.approx([0.5, 0.4, 1 / 3])


def test_a_schedule_may_end_with_the_run():
    rule = GradientDescent(lr=lambda t: 0.1 * (1 - t / 10))
    assert rule.lr_at(10.0) == pytest.approx(0.01) and rule.log_lr_slope(9.5) < 0 == rule.log_lr_slope(10.0)


@pytest.mark.parametrize("correct", [True, False])
def test_adam_corrects_its_start_where_asked_for(correct):
    rule, g = Adam(lr=0.1, beta1=0.9, beta2=0.5, eps=0.0, bias_correction=correct), torch.ones(1, dtype=torch.float64)
    moved = -rule.step(torch.zeros_like(g), rule.update(rule.init(g), g), g).item()
    assert moved == pytest.approx(0.1 if correct else 0.1 * 0.1 / 0.5**0.5)


def test_second_moments_average_the_square_that_oscillations_add_to():
    """Of each coordinate, or of the whole gradient; oscillations add to what the gradient itself adds to."""
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, -2.0]])
    one, each = ScalarRMSProp(lr=0.1, beta2=0.75), RMSProp(lr=0.1, beta2=0.75)
    assert torch.equal(one.square(a[0]), torch.tensor(25.0)) and torch.equal(one.observed(a, b), torch.tensor([[-5.0]]))
    assert torch.equal(each.square(a[0]), torch.tensor([9.0, 16.0]))
    assert torch.equal(each.observed(a, b), torch.tensor([[3.0, -8.0]]))
    state = one.update(one.init(a[0]), a[0])
    assert state.nu == 6.25
    assert torch.allclose(one.step(a[0], state, a[0]), a[0] - 0.1 * a[0] / 2.5)


def test_a_state_moves_in_all_its_parts():
    state = State(2.0, torch.tensor([1.0]), torch.tensor([3.0]))
    moved = state.moved(State(1.0, torch.tensor([4.0]), torch.tensor([-2.0])), 0.5)
    assert (moved.t, moved.nu.item(), moved.momentum.item()) == (2.5, 3.0, 2.0)


def test_optimizers_by_name():
    assert set(available()) >= {"gd", "heavy_ball", "nesterov", "scalar_rmsprop", "rmsprop", "adam", "muon", "shampoo"}
    assert all(kind.name == name for name, kind in available().items())


@pytest.mark.parametrize("make", [
    lambda: GradientDescent(lr=0.0), lambda: GradientDescent(lr=-1), lambda: GradientDescent(lr=float("nan")),
    lambda: GradientDescent(lr="0.1"), lambda: GradientDescent(lr=True), lambda: HeavyBall(lr=0.1, momentum=1.0),
    lambda: RMSProp(lr=0.1, beta2=0.0), lambda: RMSProp(lr=0.1, beta2=1.0), lambda: RMSProp(lr=0.1, eps=-1),
    lambda: Adam(lr=0.1, beta1=1.5), lambda: ScalarRMSProp(lr=0.1, beta2="0.9"),
    lambda: RMSProp(lr=0.1, beta2=float("nan")), lambda: RMSProp(lr=0.1, bias_correction="x"),
    lambda: GradientDescent(lr=np.float32("nan")), lambda: GradientDescent(lr=np.bool_(True)),
])
def test_impossible_settings_are_refused(make):
    with pytest.raises(InputError):
        make()


def test_numbers_of_numpy_become_plain_ones():
    """A run's settings are written as JSON, which has no place for NumPy's."""
    rule = Adam(
        lr=np.float32(0.125), beta1=np.float64(0.5), beta2=np.float32(0.75), eps=np.int64(0),
        bias_correction=np.bool_(True),
    )
    assert rule == Adam(lr=0.125, beta1=0.5, beta2=0.75, eps=0.0)
    assert {type(value) for value in vars(rule).values()} == {float, bool}
    assert type(HeavyBall(lr=np.float16(0.5), momentum=np.float32(0.5)).momentum) is float


@pytest.mark.parametrize("function", [lambda t: None, lambda t: 1 / t, lambda: 0.1, lambda t: float("inf")])
def test_a_schedule_that_gives_no_number_is_refused(function):
    with pytest.raises(InputError, match="schedule gives"):
        GradientDescent(lr=function).lr_at(1.0)


def test_a_schedule_that_turns_negative_is_refused():
    rule = GradientDescent(lr=lambda t: 0.1 - 0.05 * t)
    with pytest.raises(InputError, match="schedule"):
        for _ in range(5):
            rule.preconditioner(
                rule.update(rule.init(torch.zeros(1)), torch.zeros(1)).moved(rule.rates(None, None), 4.0)
            )


def test_a_weight_without_any_gradient_stays():
    rule = RMSProp(lr=0.1, beta2=0.9)
    g = torch.tensor([0.0, 1.0], dtype=torch.float64)
    state = rule.update(rule.init(g), g)
    w = rule.step(torch.ones(2, dtype=torch.float64), state, g)
    assert w[0] == 1.0 and torch.isfinite(w).all() and w[1] < 1.0
