"""Matrix preconditioners: Shampoo's and Muon's steps, and their effective eigenvalues against dense matrices."""

import shutil

import numpy as np
import pytest
import scipy.linalg
import torch
from toys import tiny_problem

import gfm
from gfm.central import Settings
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.optimizers import BlockwiseOptimizer, Group, Muon, ParameterGroups, Shampoo, check_rule

run = gfm.central.run
RULES = {
    "shampoo": Shampoo(lr=0.05, damping=1e-3), "muon": Muon(lr=0.01, momentum=0.9),
    "muon in groups": ParameterGroups(Muon(lr=0.01), {"*.weight": Group(0.5, 0.2)}),
}


def followed(rule, steps):
    """The problem, bound rule, weights, state and gradient after so many steps; the state includes the next update."""
    problem = tiny_problem()
    rule = rule.with_layout(problem.flat)
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(steps):
        w, state = rule.advance(w, state, problem.gradient(w))
    g = problem.gradient(w)
    return problem, rule, w, rule.update(state, g), g


def as_matrices(problem, v):
    return [part.reshape(part.shape[0], -1) for part in problem.flat.views(v).values()]


def test_shampoo_steps_as_its_paper_says():
    problem, rule, w, state, g = followed(RULES["shampoo"], 0)
    sums = [(1e-3 * torch.eye(len(G)).double(), 1e-3 * torch.eye(G.shape[1]).double()) for G in as_matrices(problem, g)]
    expected = w
    for _ in range(4):
        g, moved = problem.gradient(expected), []
        for k, G in enumerate(as_matrices(problem, g)):
            L, R = sums[k] = (sums[k][0] + G @ G.T, sums[k][1] + G.T @ G)
            left, right = (torch.tensor(fourth_root(A)) for A in (L, R))
            moved.append((torch.linalg.solve(left, G) @ torch.linalg.inv(right)).flatten())
        expected = expected - 0.05 * torch.cat(moved)
    start = problem.w0, rule.init(problem.w0)
    for _ in range(4):
        start = rule.advance(*start, problem.gradient(start[0]))
    assert torch.allclose(start[0], expected, atol=1e-10)


def fourth_root(A):
    return scipy.linalg.sqrtm(scipy.linalg.sqrtm(A.numpy()))


@pytest.mark.parametrize("ns_steps", [1, 5])
def test_muon_steps_by_newton_schulz_on_nesterovs_momentum(ns_steps):
    problem, rule, w, state, g = followed(Muon(lr=0.01, momentum=0.9, ns_steps=ns_steps), 2)
    expected, m = [], problem.flat.views(state.momentum).values()
    for G, M, W in zip(as_matrices(problem, g), m, as_matrices(problem, w), strict=True):
        D = 0.1 * (G + 0.9 * M.reshape(G.shape))
        X = D / D.norm()
        for _ in range(ns_steps):
            X = 3.4445 * X - 4.7750 * X @ X.T @ X + 2.0315 * X @ X.T @ X @ X.T @ X
        expected.append((W - 0.01 * max(1, G.shape[0] / G.shape[1]) ** 0.5 * X).flatten())
    assert torch.allclose(rule.step(w, state, g), torch.cat(expected), atol=1e-12)


@pytest.mark.parametrize("name", ["0.weight", "2.weight", "4.weight"])
def test_twenty_steps_equal_those_of_torchs_muon_without_its_half_precision(monkeypatch, name):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    problem, w = tiny_problem(), tiny_problem().w0
    rule = ParameterGroups(Muon(lr=0.01, momentum=0.9), {"*.weight": Group(weight_decay=0.1)})
    rule = rule.with_layout(problem.flat)
    parameter = torch.nn.Parameter(problem.flat.views(w)[name].clone())
    optimizer = torch.optim.Muon([parameter], lr=0.01, momentum=0.9, weight_decay=0.1)
    state = rule.init(w)
    for _ in range(20):
        g = problem.gradient(w)
        parameter.grad = problem.flat.views(g)[name].clone()
        optimizer.step()
        w, state = rule.advance(w, state, g)
    assert torch.allclose(problem.flat.views(w)[name], parameter.detach(), atol=1e-11)


@pytest.mark.parametrize("name", RULES)
def test_effective_eigenvalues_are_those_of_dense_matrices(name):
    problem, rule, w, state, _ = followed(RULES[name], 3)
    P, E, one = rule.preconditioner(state), rule.edge(state), torch.eye(433, dtype=torch.float64)
    inverse, root = one / P, one / E**0.5
    assert torch.allclose(inverse, inverse.T, atol=1e-12) and torch.linalg.eigvalsh(inverse)[0] > 0
    assert torch.allclose(root @ root, one / E, atol=1e-12)
    assert torch.allclose(inverse[3], one[3] / P) and (one[3] / P).shape == (433,)
    values = torch.linalg.eigvals((one / E) @ dense_hessian(problem, w)).real.sort(descending=True).values[:3]
    options = {"processes": ["discrete"], "settings": Settings(track=3, discrete_tolerance=1e-8)}
    found = run(problem, RULES[name], 3, **options)["discrete"]
    assert found.eigenvalues[3, :3] == pytest.approx(values.numpy(), rel=1e-6)
    assert found.loss[3] == pytest.approx(float(problem.loss(w)), rel=1e-10) and "effective_step" not in found


@pytest.mark.parametrize("name", RULES)
@pytest.mark.no_cover
def test_they_train_and_resume_bit_for_bit(tmp_path, name):
    path = tmp_path / "run.checkpoint"
    options = {"processes": ["discrete", "midpoint", "minibatch"], "settings": Settings(eigen_every=3)}

    def keep(done, _):
        if done == 4:
            shutil.copy(path, tmp_path / "kept")

    whole = run(tiny_problem(), RULES[name], 8, checkpoint=path, checkpoint_every=1, progress=keep, **options)
    shutil.copy(tmp_path / "kept", path)
    rest = run(tiny_problem(), RULES[name], 8, checkpoint=path, **options)
    for process in options["processes"]:
        assert all(np.array_equal(v, rest[process][n], equal_nan=True) for n, v in whole[process].items())
    assert whole["discrete"].loss[-1] < 0.98 * whole["discrete"].loss[0]
    whole.save(tmp_path / "run.npz")


@pytest.mark.parametrize("processes", [["central"], ["stable"], ["discrete", "central"]])
@pytest.mark.parametrize("name", RULES)
def test_flows_are_refused_in_one_sentence(name, processes):
    problem = tiny_problem()
    with pytest.raises(InputError, match="matrix preconditioner are not derived"):
        run(problem, RULES[name], 2, processes=processes)
    assert problem.costs.gradients == 0


def test_the_layout_is_asked_for():
    with pytest.raises(InputError, match="with_layout"):
        Shampoo(lr=0.1).init(torch.zeros(4))
    with pytest.raises(InputError, match="square root"):
        rule = Shampoo(lr=0.1).with_layout(tiny_problem().flat)
        rule.preconditioner(rule.init(torch.zeros(433))) ** 2


def test_a_rule_of_ones_own_needs_three_methods():
    """Gradient descent with the root of each tensor's mean squared gradient, written as blocks."""

    class Layerwise(BlockwiseOptimizer):
        lr = 0.1

        def init_block(self, W):
            return (W.new_zeros(()),)

        def update_block(self, block, G):
            return (0.9 * block[0] + 0.1 * (G * G).mean(),)

        def inverse_root(self, block):
            return lambda G: G / block[0] ** 0.25

    problem, rule, w, state, g = followed(Layerwise(), 0)
    check_rule(rule, w, flows=False)
    expected = [0.1 * G / (0.1 * (G * G).mean()).sqrt() for G in problem.flat.views(g).values()]
    assert torch.allclose(w - rule.step(w, state, g), torch.cat([part.flatten() for part in expected]))


@pytest.mark.parametrize("make", [
    lambda: Shampoo(lr=0.1, damping=0.0), lambda: Shampoo(lr=-1), lambda: Muon(lr=0.1, momentum=1.0),
    lambda: Muon(lr=0.1, ns_steps=0),
])
def test_impossible_settings_are_refused(make):
    with pytest.raises(InputError):
        make()
