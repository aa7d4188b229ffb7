"""Derivatives of L(w): against dense autograd, finite differences, and themselves in pieces."""

import pytest
import torch
from torch import nn
from toys import tiny_data, tiny_net, tiny_problem

import gfm


@pytest.fixture(params=["sweeps", "graph"])
def problem(request):
    made = tiny_problem()
    assert made.feed_forward is not None and made.batched
    if request.param == "graph":
        made.feed_forward = None
    return made


def directions(problem, k, seed=3):
    return torch.randn(problem.p, k, generator=torch.Generator().manual_seed(seed), dtype=problem.dtype)


def plain_loss(problem):
    """The same loss by plain torch, as a function of the flat vector."""
    module, x, y = tiny_net(), *tiny_data()

    def loss(w):
        out = torch.func.functional_call(module, problem.flat.views(w), (x,))
        return 0.5 * (out - y).pow(2).sum(1).mean()

    return loss


def test_loss_and_gradient_are_those_of_the_module(problem):
    module, (x, y) = tiny_net(), tiny_data()
    value = 0.5 * (module(x) - y).pow(2).sum(1).mean()
    value.backward()
    expected = torch.cat([q.grad.reshape(-1) for q in module.parameters()])
    assert torch.allclose(problem.loss(problem.w0), value)
    assert torch.allclose(problem.gradient(problem.w0), expected, atol=1e-14)


def test_hessian_products_are_those_of_the_dense_hessian(problem):
    H = torch.autograd.functional.hessian(plain_loss(problem), problem.w0)
    V = directions(problem, 3)
    assert torch.allclose(problem.hvp(problem.w0, V), H @ V, atol=1e-11)
    assert torch.allclose(problem.hvp(problem.w0, V[:, 0]), H @ V[:, 0], atol=1e-11)
    assert torch.allclose(gfm.curvature.dense_hessian(problem, problem.w0), H, atol=1e-11)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_all_third_derivatives_against_differences_of_products(problem, batched, k):
    """Every pair, so that a wrong pairing of copies shows."""
    problem.batched = batched
    U = directions(problem, k).T.contiguous()
    U /= U.norm(dim=1, keepdim=True)
    expansion = problem.at(problem.w0, k).expand(U)
    thirds = expansion.third()
    step = 1e-5
    for a, (i, j) in enumerate(zip(*gfm.linalg.symmetric.pairs(k), strict=True)):
        # d/dw of u_i^T H u_j in direction e equals e^T D^3 L[u_i, u_j]; difference H u_j along u_i.
        ahead = problem.hvp(problem.w0 + step * U[i], U[j])
        behind = problem.hvp(problem.w0 - step * U[i], U[j])
        expected = (ahead - behind) / (2 * step)
        assert torch.allclose(thirds[a], expected, atol=2e-8), (i, j)
        assert torch.allclose(problem.third(problem.w0, U[i], U[j]), thirds[a], atol=1e-12)


def test_third_derivatives_of_chosen_rows(problem):
    U = directions(problem, 4).T.contiguous()
    expansion = problem.at(problem.w0, 4).expand(U)
    whole = expansion.third()
    part = expansion.third([1, 3])
    order = {pair: a for a, pair in enumerate(zip(*map(list, gfm.linalg.symmetric.pairs(4)), strict=True))}
    for a, pair in enumerate([(1, 1), (1, 3), (3, 3)]):
        assert torch.allclose(part[a], whole[order[pair]], atol=1e-13)


@pytest.mark.parametrize("k", [1, 3, 4, 6])
def test_few_vectors_at_a_point_of_many_copies(k):
    """They are multiplied with as many copies as they need; one gradient pays for making those."""
    problem = tiny_problem()
    problem.feed_forward = None
    U = directions(problem, k).T.contiguous()
    narrow, wide = problem.at(problem.w0, k), problem.at(problem.w0, 8)
    before = problem.costs.gradients
    assert torch.allclose(wide.hvp(U), narrow.hvp(U), atol=1e-12)
    assert torch.allclose(wide.expand(U).third(), narrow.expand(U).third(), atol=1e-12)
    assert problem.costs.gradients - before == (k <= 4)
    more = directions(problem, 8).T.contiguous()
    assert torch.allclose(wide.hvp(more)[:2], problem.at(problem.w0).hvp(more[:2]), atol=1e-12)


def test_pieces_of_the_data_give_the_full_batch():
    whole, pieces = tiny_problem(), tiny_problem(batch_size=50)  # 50 + 50 + 28: unequal on purpose
    w, V = whole.w0, directions(whole, 2)
    assert torch.allclose(whole.loss(w), pieces.loss(w), atol=1e-14)
    assert torch.allclose(whole.gradient(w), pieces.gradient(w), atol=1e-14)
    assert torch.allclose(whole.hvp(w, V), pieces.hvp(w, V), atol=1e-12)
    assert torch.allclose(whole.third(w, V[:, 0], V[:, 1]), pieces.third(w, V[:, 0], V[:, 1]), atol=1e-11)
    U = V.T.contiguous()
    assert torch.allclose(whole.at(w, 2).expand(U).third(), pieces.at(w, 2).expand(U).third(), atol=1e-11)


def test_top_eigenpairs_are_the_dense_ones(problem):
    H = gfm.curvature.dense_hessian(problem, problem.w0)
    values, U = problem.top_eigenpairs(problem.w0, 4)
    assert torch.allclose(values, torch.linalg.eigvalsh(H).flip(0)[:4], atol=1e-9)
    assert U.shape == (problem.p, 4)
    assert (H @ U - U * values).norm() < 1e-5


def test_float32_works_and_keeps_its_dtype():
    problem, exact = tiny_problem(torch.float32), tiny_problem()
    V = directions(exact, 2)
    single = problem.hvp(problem.w0, V.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact.hvp(exact.w0, V), atol=1e-4)
    assert problem.top_eigenpairs(problem.w0, 2)[0].dtype == torch.float32


@pytest.mark.parametrize("options", [{}, {"batch_size": 50}])
def test_results_carry_no_graph(options):
    problem = tiny_problem(**options)
    w = problem.w0.clone().requires_grad_()
    found = problem.loss(w), problem.gradient(w), problem.hvp(w, problem.w0), problem.third(w, problem.w0, problem.w0)
    assert not any(value.requires_grad for value in found)


def test_costs_count_full_batch_evaluations(problem):
    problem.gradient(problem.w0)
    point = problem.at(problem.w0, 3)
    point.hvp(directions(problem, 5).T)
    point.expand(directions(problem, 3).T.contiguous()).third()
    assert (problem.costs.gradients, problem.costs.hvps, problem.costs.thirds) == (2, 8, 6)


def test_costs_of_pieces_are_those_of_the_full_batch_and_differences_are_by_kind():
    problem = tiny_problem(batch_size=50)
    U = directions(problem, 2).T.contiguous()
    problem.third(problem.w0, U[0], U[1])
    before = problem.costs.copy()
    assert before == gfm.problem.Costs(gradients=1, hvps=1, thirds=1)
    problem.at(problem.w0, 2).expand(U).third()
    problem.gradient(problem.w0)
    assert problem.costs.since(before) == gfm.problem.Costs(gradients=2, hvps=2, thirds=3)


@pytest.mark.parametrize(("loss", "build"), [
    ("mse", lambda o: torch.nn.functional.one_hot(torch.arange(6) % 4, 4).double()),
    ("mse", lambda o: torch.arange(6) % 4),
    ("cross_entropy", lambda o: torch.arange(6) % 4),
])
def test_losses_are_the_textbook_ones(loss, build):
    net, x = tiny_net(outputs=4), tiny_data(6)[0]
    y = build(None)
    rows = y.double() if y.ndim == 2 else nn.functional.one_hot(y, 4).double()
    out = net(x)
    expected = {
        "mse": 0.5 * (out - rows).pow(2).sum(1).mean(),
        "cross_entropy": nn.functional.cross_entropy(out, rows.argmax(1)),
    }[loss]
    problem = gfm.Problem(net, x, y, loss)
    assert torch.allclose(problem.loss(problem.w0), expected)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_masked_positions_of_sequences_do_not_count(loss):
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))

        def forward(self, x):
            return self.w[x]

    net, x = Rows(), torch.arange(3)
    y = torch.tensor([[-1, -1, 0, 1, 2], [-1, -1, 3, 3, 0], [-1, -1, 1, 0, 2]])
    problem = gfm.Problem(net, x, y, loss)
    kept, labels = net.w[:, 2:], y[:, 2:]
    rows = nn.functional.one_hot(labels, 4).double()
    expected = {
        "mse": 0.5 * (kept - rows).pow(2).sum(-1).mean(),
        "cross_entropy": nn.functional.cross_entropy(kept.flatten(0, 1), labels.flatten()),
    }[loss]
    assert torch.allclose(problem.loss(problem.w0), expected)
    gradient = problem.flat.views(problem.gradient(problem.w0))["w"]
    assert (gradient[:, :2] == 0).all() and (gradient[:, 2:] != 0).all()


def test_sequences_count_alike_however_many_positions_are_masked():
    """The loss is a mean over examples, each the mean over its unmasked positions."""
    net = nn.Embedding(4, 3).double()
    x, y = torch.tensor([[0, 1, 2], [3, 2, 1]]), torch.tensor([[-1, -1, 2], [0, 1, 2]])
    problem = gfm.Problem(net, x, y, "cross_entropy")
    each = nn.functional.cross_entropy(net(x).transpose(1, 2), y, ignore_index=-1, reduction="none")
    expected = (each[0, 2] + each[1].mean()) / 2
    assert torch.allclose(problem.loss(problem.w0), expected)


def test_a_callable_loss_is_used_as_it_is():
    x, y = tiny_data()
    problem = gfm.Problem(tiny_net(), x, y, loss=lambda out, target: (out - target).abs().mean())
    assert torch.allclose(problem.loss(problem.w0), (tiny_net()(x) - y).abs().mean())


def test_a_loss_of_the_package_is_taken_as_its_name_is():
    x, y = tiny_data()
    named, given = gfm.Problem(tiny_net(), x, y, "mse"), gfm.Problem(tiny_net(), x, y, gfm.losses.MeanSquare())
    assert torch.equal(named.gradient(named.w0), given.gradient(given.w0))
