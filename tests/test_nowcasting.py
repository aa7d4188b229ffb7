"""The Nowcaster: what it may change in a run, and what it must leave alone."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

import gfm
from gfm.nowcasting import Nowcaster, merged

X = torch.randn(256, 6, generator=torch.Generator().manual_seed(0))
Y = torch.sin(X.sum(1, keepdim=True))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 1))


class Run:
    """A training run with dropout, running statistics and, if wanted, a nowcaster."""

    def __init__(self, optimizer=lambda p: torch.optim.AdamW(p, 1e-2), model=None, **options):
        self.model = network() if model is None else model
        self.optimizer = optimizer(self.model.parameters())
        self.generator = torch.Generator().manual_seed(1)
        torch.manual_seed(2)
        self.nowcaster = Nowcaster(self.optimizer, self.model, **options) if options else None

    def loss(self):
        return nn.functional.mse_loss(self.model(X[self.rows].to(self.model[0].weight.dtype)), Y[self.rows])

    def step(self):
        self.rows = torch.randint(256, (32,), generator=self.generator)
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        return self.nowcaster.step(self.loss) if self.nowcaster else False

    def go(self, steps):
        return [self.step() for _ in range(steps)]

    def weights(self):
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])


def away(window):
    """Candidates that no gate should take."""
    return np.stack([window.weights[0, -1] + 100.0, np.full(window.parameters, np.nan)])


def test_a_rule_whose_proposals_are_refused_changes_nothing_at_all():
    looking = Run(rule=away, seen=3, every=2)
    assert not any(looking.go(60)) and looking.nowcaster.looks > 2
    plain = Run()
    plain.go(60)
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, looking.model.state_dict()[name]), name
    for one, other in zip(plain.model.parameters(), looking.model.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_torch_random_numbers_are_those_of_a_run_without_looks():
    Run().go(40)
    expected = torch.rand(3)
    Run(rule=away, seen=3, every=2).go(40)
    assert torch.equal(torch.rand(3), expected)


def test_on_the_gates_examples_a_jump_is_never_worse():
    run = Run(seen=4, every=2)
    run.model[3].p = 0.0
    before = {}

    def loss():
        value = run.loss()
        before.setdefault("here", value.item())
        return value

    jumps = 0
    for _ in range(120):
        run.rows = torch.randint(256, (32,), generator=run.generator)
        run.optimizer.zero_grad()
        run.loss().backward()
        run.optimizer.step()
        before.clear()
        if run.nowcaster.step(loss):
            jumps += 1
            with torch.no_grad():
                assert run.loss().item() < before["here"]
    assert jumps == run.nowcaster.jumps > 3


def test_it_jumps_to_what_a_fitted_forecaster_says():
    data = gfm.Trajectories(np.cumsum(np.ones((1, 9, 5)), axis=1))
    model = gfm.forecasters.available()["linear-ends"](observed=3).fit(data)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    nowcaster = Nowcaster(optimizer, net, model, every=1, ahead=(1, 4), gate=False)
    start = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    for step in range(1, 4):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.5)
        assert nowcaster.step() is (step == 3)
    end = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    torch.testing.assert_close(end, start + 0.5 * 3 + 0.5 * 4)


def test_a_run_continues_from_its_state_as_if_never_interrupted():
    whole = Run(seen=3, every=2)
    taken = whole.go(50)
    assert any(taken)
    first = Run(seen=3, every=2)
    first.go(23)
    kept = torch.get_rng_state()
    second = Run(seen=3, every=2)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.generator.set_state(first.generator.get_state())
    second.nowcaster.load_state_dict(first.nowcaster.state_dict())
    torch.set_rng_state(kept)
    assert second.go(27) == taken[23:]
    assert torch.equal(second.weights(), whole.weights())


def test_states_are_saved_without_pickle_of_own_classes(tmp_path):
    run = Run(rule=away, seen=3, every=2)
    run.go(9)
    torch.save(run.nowcaster.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = Run(seen=3, every=2)
    other.nowcaster.load_state_dict(state)
    np.testing.assert_array_equal(other.nowcaster.window().weights, run.nowcaster.window().weights)


def test_a_window_tells_the_present_learning_rate_and_the_optimizers_averages():
    run = Run(rule=away, seen=2, every=3)
    schedule = torch.optim.lr_scheduler.LinearLR(run.optimizer, 1.0, 0.1, total_iters=20)
    for _ in range(6):
        run.step()
        schedule.step()
    window = run.nowcaster.window()
    assert window.meta["lr"] == pytest.approx(schedule.get_last_lr()[0])
    assert window.steps.tolist() == [0, 3, 6] and window.buffers["optimizer.step"].tolist() == [[0, 3, 6]]
    state = [run.optimizer.state[p]["exp_avg_sq"].reshape(-1) for p in run.model.parameters()]
    np.testing.assert_array_equal(window.states["second"][0, -1], torch.cat(state).numpy())
    np.testing.assert_array_equal(window.weights[0, -1], run.weights().numpy())
    assert window.groups[0] == "0.weight"


@pytest.mark.parametrize(
    ("make", "kind", "names"),
    [
        (lambda p: torch.optim.SGD(p, 1e-2), "SGD", set()),
        (lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9), "momentum", {"momentum"}),
        (lambda p: torch.optim.RMSprop(p, 1e-3), "RMSprop", {"second"}),
        (lambda p: torch.optim.Adam(p, 1e-3), "Adam", {"momentum", "second"}),
        (lambda p: torch.optim.NAdam(p, 1e-3), "NAdam", set()),
    ],
)
def test_every_optimizer_of_torch_can_be_looked_after(make, kind, names):
    run = Run(make, seen=2, every=1)
    run.go(20)
    run.nowcaster.recent.states *= 3  # whether or not it has just jumped
    window = run.nowcaster.window()
    assert window.meta["optimizer"] == kind and set(window.states or {}) == names


def test_closures_that_compute_gradients_leave_the_gradients_alone():
    run = Run(rule=away, seen=2, every=1)

    def closure():
        run.optimizer.zero_grad()
        value = run.loss()
        value.backward()
        return value

    for _ in range(12):
        run.rows = torch.randint(256, (32,), generator=run.generator)
        run.optimizer.step(closure)
        before = [p.grad.clone() for p in run.model.parameters()]
        run.nowcaster.step(closure)
        for gradient, parameter in zip(before, run.model.parameters(), strict=True):
            assert torch.equal(gradient, parameter.grad)
    assert run.nowcaster.looks > 0


def test_looks_that_lead_nowhere_become_rarer():
    run = Run(rule=away, seen=2, every=1, period=2)
    seen, at = 0, []
    for step in range(1, 61):
        run.step()
        if run.nowcaster.looks > seen:
            seen, at = run.nowcaster.looks, [*at, step]
    assert np.diff(at).tolist() == [4, 8, 16, 16]


def test_after_a_jump_a_new_window_begins_and_looks_are_as_frequent_as_at_first():
    """Refused twice, then taken: the next refusal waits as long as the first one did."""
    answers, at = iter("nnynyyyyyyyyy"), []
    model = nn.Linear(6, 1)

    def rule(window):
        at.append(nowcaster.steps)
        step = 1.0 if next(answers) == "y" else np.nan
        return window.weights[0, -1:] + step

    nowcaster = Nowcaster(torch.optim.SGD(model.parameters(), 0.1), model, rule, seen=2, every=1, period=2, gate=False)
    for _ in range(30):
        taken = nowcaster.step()
        assert len(nowcaster.recent.states) == 1 or not taken
    # After the jump at 14 a look needs two more states; after the refusal at 16 it waits 2 x 2 steps, not 2 x 8.
    assert at[:5] == [2, 6, 14, 16, 20]


def test_looks_are_apart_by_the_distance_of_states_unless_told_otherwise():
    run = Run(rule=away, seen=2, every=3)
    at = []
    for step in range(1, 40):
        before = run.nowcaster.looks
        run.step()
        at += [step] * (run.nowcaster.looks - before)
    assert run.nowcaster.period == 3 and at == [6, 12, 24]


def test_a_module_in_half_precision_is_recorded_and_jumps():
    run = Run(lambda p: torch.optim.SGD(p, 1e-2), model=nn.Sequential(nn.Linear(6, 1)).bfloat16(), seen=2, every=1)
    run.go(20)
    assert run.nowcaster.looks > 0 and run.model[0].weight.dtype == torch.bfloat16


def test_the_default_rule_is_a_line_through_the_means_of_both_halves():
    states = np.array([[0.0], [2.0], [4.0], [6.0]])[None]
    found = merged((0.0, 1.0, 3.0))(gfm.Trajectories(states))
    np.testing.assert_allclose(found[:, 0], [3.0, 7.0, 15.0])


def test_what_a_loss_does_to_the_model_is_put_back():
    """Training mode, and buffers that a module makes anew instead of changing them; Python's and NumPy's draws."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls = self.calls + 1
            return x

    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), Counts(), nn.Linear(12, 1))
    run = Run(model=model, rule=lambda window: window.weights[0, -1:], seen=2, every=1)

    def loss():
        model.eval()
        random.random()
        np.random.rand()
        return run.loss()

    random.seed(1)
    np.random.seed(1)
    for _ in range(6):
        run.rows = torch.arange(32)
        run.optimizer.zero_grad()
        run.loss().backward()
        run.optimizer.step()
        run.nowcaster.step(loss)
    assert run.nowcaster.looks > 0
    assert all(module.training for module in model.modules()) and model[2].calls.item() == 6
    drawn = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    assert drawn == (random.random(), np.random.rand())


def test_only_weights_that_the_optimizer_trains_are_moved():
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model[0].parameters(), 0.1)
    nowcaster = Nowcaster(optimizer, model, lambda window: window.weights[0, -1:] + 1, seen=1, every=1, gate=False)
    before = [p.detach().clone() for p in model.parameters()]
    model[0].bias.requires_grad_(False)  # frozen later
    assert nowcaster.step()
    moved = [not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [True, False, False, False]
