"""Learning rate and weight decay by parameter group: torch's steps, and the flows of the losses they amount to."""

import numpy as np
import pytest
import torch
from torch import nn
from toys import quadratic, tiny_data, tiny_net, tiny_problem

import gfm
from gfm.central.substep import local_flow
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.linalg.symmetric import from_half
from gfm.optimizers import (
    Adam,
    GradientDescent,
    Group,
    HeavyBall,
    ParameterGroups,
    RMSProp,
    ScalarRMSProp,
    check_rule,
    schedules,
)

run = gfm.central.run
GROUPS = {"*.weight": Group(lr_factor=0.5, weight_decay=0.3), "4.bias": Group(lr_factor=3.0)}

#: Ours, and torch's with what its decay must be for the same step (torch's SGD and RMSprop know L2 only).
PAIRS = {
    "gd": (GradientDescent(lr=0.1), torch.optim.SGD, {"lr": 0.1}),
    "heavy ball": (HeavyBall(lr=0.05, momentum=0.8), torch.optim.SGD, {"lr": 0.05, "momentum": 0.8}),
    "rmsprop": (RMSProp(lr=1e-3, beta2=0.95, eps=1e-6), torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.95, "eps": 1e-6}),
    "adam": (Adam(lr=1e-2, beta2=0.99), torch.optim.Adam, {"lr": 1e-2, "betas": (0.9, 0.99)}),
    "adamw": (Adam(lr=1e-2, beta2=0.99), torch.optim.AdamW, {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.0}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_twenty_steps_equal_those_of_torch(name):
    rule, kind, options = PAIRS[name]
    decays = name in ("gd", "adamw")  # L2 and decoupled decay are one for gradient descent
    groups = GROUPS if decays else {"*.weight": Group(lr_factor=0.5), "4.bias": Group(lr_factor=3.0)}
    problem, module = tiny_problem(), tiny_net()
    rule = ParameterGroups(rule, groups).with_layout(problem.flat)
    named, lr = dict(module.named_parameters()), options["lr"]
    optimizer = kind([
        {"params": [q for n, q in named.items() if n.endswith("weight")], "lr": 0.5 * lr,
         **({"weight_decay": 0.3} if decays else {})},
        {"params": [named["4.bias"]], "lr": 3.0 * lr},
        {"params": [named["0.bias"], named["2.bias"]]},
    ], **options)
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(20):
        gradient = problem.flat.views(problem.gradient(problem.flat.flatten(module)))
        for n, q in named.items():
            q.grad = gradient[n].clone()
        optimizer.step()
        w, state = rule.advance(w, state, problem.gradient(w))
    assert torch.allclose(w, problem.flat.flatten(module), atol=1e-12)
    assert float((w - problem.w0).norm()) > 1e-2


RULES = [
    GradientDescent(lr=0.1), HeavyBall(lr=0.1), RMSProp(lr=0.01, beta2=0.9, eps=1e-3, bias_correction=True), Adam(),
    RMSProp(lr=schedules.Cosine(0.1, 4), beta2=0.9), GradientDescent(lr=schedules.WarmUp(0.1, 20)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_every_rule_has_groups_that_fit_together(rule):
    problem = tiny_problem()
    check_rule(ParameterGroups(rule, GROUPS).with_layout(problem.flat), problem.w0)
    check_rule(ParameterGroups(rule, {"*": Group(0.5, 0.1)}).with_layout(problem.flat), problem.w0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_the_rate_of_the_edge_is_its_derivative(rule):
    problem = tiny_problem()
    rule = ParameterGroups(rule, {"*.weight": Group(0.5, 3.0)}).with_layout(problem.flat)
    g, state = problem.gradient(problem.w0), rule.init(problem.w0)
    for _ in range(3):
        state = rule.update(state, g)
    rates, h = rule.rates(state, 2 * g), 1e-4  # forward: a schedule has a corner at every step
    here, ahead, further = (rule.edge(state.moved(rates, dt)) * torch.ones_like(g) for dt in (0.0, h, 2 * h))
    expected = (4 * ahead - 3 * here - further) / (2 * h)
    found = rule.edge_rate(state, rates) * torch.ones_like(g)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(ahead.max()))


class Penalised(nn.Module):
    """A network and its weights as further outputs, whose half squares are an L2 penalty."""

    def __init__(self, decay):
        super().__init__()
        self.net, self.decay = tiny_net(width=4), decay

    def forward(self, x):
        weights = torch.cat([q.flatten() for q in self.net.parameters()])
        return torch.cat([self.net(x), (self.decay**0.5 * weights).expand(len(x), -1)], 1)


@pytest.mark.no_cover
def test_the_flow_of_decoupled_decay_is_that_of_the_penalty_under_gradient_descent():
    """They are the same rule there, so both flows, and their edges, must be the same."""
    (x, y), lr, decay = tiny_data(16), 1.0, 0.02
    plain = gfm.Problem(tiny_net(width=4), x, y)
    penalised = gfm.Problem(Penalised(decay), x, torch.cat([y, torch.zeros(16, plain.p, dtype=y.dtype)], 1))
    options = {"processes": ("discrete", "stable", "central"), "keep_weights": 8, "warmup": 6}
    decoupled = ParameterGroups(GradientDescent(lr=lr), {"*": Group(weight_decay=decay)})
    ours, theirs = run(plain, decoupled, 8, **options), run(penalised, GradientDescent(lr=lr), 8, **options)
    without = run(plain, GradientDescent(lr=lr), 8, **options)
    for name in options["processes"]:
        ends = [found[name].weights[-1] for found in (ours, theirs, without)]
        assert np.abs(ends[0] - ends[1]).max() < 5e-4 < 0.02 * np.abs(ends[2] - ends[1]).max(), name
    # (S + decay) lr = 2 is S lr / (1 - lr decay / 2) = 2; Sigma is measured by E = (1 - lr decay / 2) P
    share = 1 - lr * decay / 2
    (a, b) = (found["central"] for found in (ours, theirs))
    assert np.allclose(a.eigenvalues[:, 0] * share, b.eigenvalues[:, 0] - lr * decay, rtol=2e-3)
    assert (a.sigma[:, 0] > 0).sum() > 3 and np.nanmax(abs(a.sigma[:, 0] / share - b.sigma[:, 0])) < 5e-3


@pytest.mark.parametrize("rule", [GradientDescent(lr=0.1), HeavyBall(lr=0.1, momentum=0.6), Adam(lr=0.1, beta1=0.6)])
def test_a_rule_with_decay_oscillates_beyond_its_edge(rule):
    """Run on quadratics just below and above: at fixed P the weight falls or grows."""
    rule = ParameterGroups(rule, {"*": Group(0.7, 2.0)}).with_layout(quadratic([1.0], [1.0]).flat)
    w = torch.ones(1, dtype=torch.float64)
    frozen = rule.update(rule.init(w), w)
    if frozen.nu is not None:
        frozen = held(frozen)
    edge = float(rule.edge(frozen)) * rule.threshold
    for share, grows in ((0.99, False), (1.01, True)):
        weight, state, sizes = w, rule.init(w), []
        for _ in range(400):
            g = share * edge * weight
            state = rule.update(state, g)
            if frozen.nu is not None:
                state = held(state)
            weight = rule.step(weight, state, g)
            sizes.append(abs(float(weight)))
        assert (sizes[-1] > sizes[200]) == grows, share


def held(state):
    """The state long after the start, with a nu that is not moved by the gradient."""
    return type(state)(1e6, torch.ones(1, dtype=torch.float64), state.momentum)


@pytest.mark.parametrize("rule", [RMSProp(lr=0.01, beta2=0.9, eps=1e-3), Adam(lr=0.01, beta1=0.5, beta2=0.9, eps=1e-3)])
@pytest.mark.no_cover
def test_adaptive_rules_with_groups_are_held_at_their_edge(rule):
    rule = ParameterGroups(rule, {"*.weight": Group(0.8, 1.0), "*.bias": Group(2.0)})
    found = run(tiny_problem(), rule, 26, processes=("discrete", "central"), warmup=10)
    top = found["central"].eigenvalues[:, 0] / rule.threshold
    assert top[-20:].max() < 1.001 and (found["central"].sigma[:, 0] > 0).any()
    assert found.distance("discrete", "central")[-1] < 0.2 * np.sqrt(433)


def test_the_rate_of_the_condition_is_its_derivative():
    """d/dt U (c E - H) U^T along the flow with an oscillation, by differences: alpha + beta[X]."""
    problem, w = tiny_problem(), tiny_problem().w0
    rule = ParameterGroups(RMSProp(lr=0.02, beta2=0.9, eps=1e-3), {"*.weight": Group(0.8, 3.0), "0.bias": Group(2.0)})
    rule = rule.with_layout(problem.flat)
    state = rule.init(w)
    for scale in (1.0, 2.0, 0.5):
        state = rule.update(state, scale * problem.gradient(w))
    E = rule.edge(state)
    values, vectors = torch.linalg.eigh(dense_hessian(problem, w) / E.sqrt() / E.sqrt()[:, None])
    U = (vectors[:, -2:].T / E.sqrt()).flip(0)
    local = local_flow(problem.at(w, 2), rule, state, U, critical_share=1e-3)
    x, h = np.array([0.3, 0.1, 0.2]), 1e-7
    weights = torch.tensor(x)
    w_rate = local.w_rate + weights @ local.w_push
    rates = type(state)(1.0, local.state_rate.nu + weights @ local.nu_push)

    def condition(dt):
        there, then = w + dt * w_rate, state.moved(rates, dt)
        return rule.threshold * (U * rule.edge(then)) @ U.T - U @ dense_hessian(problem, there) @ U.T

    difference = ((condition(h) - condition(-h)) / (2 * h)).numpy()
    assert np.allclose(local.alpha + from_half(local.B @ x), difference, rtol=1e-3, atol=1e-4 * abs(difference).max())
    assert np.allclose(local.B, local.B.T)


@pytest.mark.parametrize(("groups", "words"), [
    ({"*.wait": Group()}, "matches none of the parameters"), ({"*": Group(), "0.*": Group()}, "in two groups"),
    ({"*": 0.1}, "must map patterns"), ([("*", Group())], "must map patterns"),
])
def test_groups_that_fit_no_parameters_are_refused(groups, words):
    with pytest.raises(InputError, match=words):
        run(tiny_problem(), ParameterGroups(GradientDescent(lr=0.1), groups), 2)


@pytest.mark.parametrize("options", [
    {"lr_factor": 0}, {"lr_factor": -1}, {"weight_decay": -1}, {"lr_factor": "1"}, {"weight_decay": float("inf")},
])
def test_impossible_options_of_a_group_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Group(**options)


def test_a_layout_is_asked_for_and_one_second_moment_has_no_flow():
    rule = ParameterGroups(ScalarRMSProp(lr=0.1), {"*.bias": Group(2.0)})
    with pytest.raises(InputError, match="with_layout"):
        rule.preconditioner(rule.init(torch.zeros(3)))
    with pytest.raises(InputError, match="one second moment for all weights"):
        run(tiny_problem(), rule, 2)
    assert np.isfinite(run(tiny_problem(), rule, 2, processes=["discrete"])["discrete"].loss).all()
    with pytest.raises(InputError, match="without groups"):
        ParameterGroups(rule, {})


def test_groups_are_recorded_and_saved(tmp_path):
    found = run(tiny_problem(), ParameterGroups(Adam(), GROUPS), 2, processes=["discrete"])
    found.save(tmp_path / "run.npz")
    settings = gfm.central.Run.load(tmp_path / "run.npz").settings
    assert settings["optimizer"] == "Adam" and settings["groups"]["*.weight"] == {"lr_factor": 0.5, "weight_decay": 0.3}
