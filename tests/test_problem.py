"""Derivatives of L(w): against dense autograd, finite differences, and themselves in pieces."""

import pytest
import torch
from torch import nn

import gfm
from gfm.errors import GfmError, NumericalError
from toys import tiny_data, tiny_net, tiny_problem


@pytest.fixture
def problem():
    return tiny_problem()


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
    for a, (i, j) in enumerate(zip(*gfm.symmetric.pairs(k), strict=True)):
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
    order = {pair: a for a, pair in enumerate(zip(*map(list, gfm.symmetric.pairs(4)), strict=True))}
    for a, pair in enumerate([(1, 1), (1, 3), (3, 3)]):
        assert torch.allclose(part[a], whole[order[pair]], atol=1e-13)


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
    values, U, residuals = problem.top_eigenpairs(problem.w0, 4, return_residuals=True)
    assert torch.allclose(values, torch.linalg.eigvalsh(H).flip(0)[:4], atol=1e-9)
    assert U.shape == (problem.p, 4)
    assert (H @ U - U * values).norm() < 1e-5
    assert residuals.max() < 1e-5


def test_float32_works_and_keeps_its_dtype():
    problem, exact = tiny_problem(torch.float32), tiny_problem()
    V = directions(exact, 2)
    single = problem.hvp(problem.w0, V.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), exact.hvp(exact.w0, V), atol=1e-4)
    assert problem.top_eigenpairs(problem.w0, 2)[0].dtype == torch.float32


def test_costs_count_full_batch_evaluations(problem):
    problem.gradient(problem.w0)
    point = problem.at(problem.w0, 3)
    point.hvp(directions(problem, 5).T)
    point.expand(directions(problem, 3).T.contiguous()).third()
    assert (problem.costs.gradients, problem.costs.hvps, problem.costs.thirds) == (2, 8, 6)


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


def test_a_callable_loss_is_used_as_it_is():
    x, y = tiny_data()
    problem = gfm.Problem(tiny_net(), x, y, loss=lambda out, target: (out - target).abs().mean())
    assert torch.allclose(problem.loss(problem.w0), (tiny_net()(x) - y).abs().mean())


def bad(change):
    x, y = tiny_data()
    given = {"module": tiny_net(), "inputs": x, "targets": y, "loss": "mse"}
    given.update(change(x, y))
    return given


@pytest.mark.parametrize(("change", "words"), [
    (lambda x, y: {"targets": y[:-1]}, "128 inputs but 127 targets"),
    (lambda x, y: {"targets": torch.cat([y, y], 1)}, "outputs' shape"),
    (lambda x, y: {"targets": y.float()}, "dtype"),
    (lambda x, y: {"inputs": x.float()}, "dtype"),
    (lambda x, y: {"inputs": x[:, :5]}, "cannot take inputs"),
    (lambda x, y: {"inputs": x.clone().index_fill_(0, torch.tensor([3]), float("nan"))}, "NaN"),
    (lambda x, y: {"targets": y.clone().index_fill_(0, torch.tensor([3]), float("inf"))}, "NaN or infinity"),
    (lambda x, y: {"inputs": x[:0], "targets": y[:0]}, "empty"),
    (lambda x, y: {"inputs": x.numpy()}, "torch tensor"),
    (lambda x, y: {"loss": "huber"}, "unknown loss"),
    (lambda x, y: {"loss": lambda out, target: out - target}, "scalar"),
    (lambda x, y: {"batch_size": 0}, "batch_size"),
    (lambda x, y: {"module": nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.1), nn.Linear(4, 1)).double()}, "train mode"),
    (lambda x, y: {"module": nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()}, "train mode"),
    (lambda x, y: {"module": nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 1)).double()}, "fused norm"),
    (lambda x, y: {"module": nn.Flatten()}, "no trainable parameters"),
    (lambda x, y: {"module": lambda x: x}, "torch.nn.Module"),
])
def test_bad_input_gets_one_sentence_before_any_work(change, words):
    given = bad(change)
    with pytest.raises(GfmError, match=words) as caught:
        gfm.Problem(given.pop("module"), given.pop("inputs"), given.pop("targets"), **given)
    assert "\n" not in str(caught.value)


class Net(nn.Module):
    """Two linear layers with something between them and something behind."""

    def __init__(self, between=torch.tanh, after=lambda x: x, hidden=6):
        super().__init__()
        self.first, self.last = nn.Linear(8, hidden), nn.Linear(hidden, 1)
        self.between, self.after = between, after
        self.double()

    def forward(self, x):
        return self.after(self.last(self.between(self.first(x))))


class Attention(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.double()

    def forward(self, x):
        x = x.view(-1, 2, 4)
        return self.attention(x, x, x, need_weights=False)[0].flatten(1)[:, :1]


class Recurrent(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layer, self.last = nn.LSTM(4, 5, 2, batch_first=True, **options), nn.Linear(5, 1)
        self.double()

    def forward(self, x):
        return self.last(self.layer(x.view(-1, 2, 4))[0][:, -1])


def fails(kind):
    def forward(x):
        raise kind("no such thing")

    return forward


OWN = [torch.float64]
F, parametrizations = nn.functional, nn.utils.parametrizations


@pytest.mark.parametrize(("build", "words"), [
    (lambda: Net(lambda x: F.layer_norm(x, (6,))), "third derivatives .* are wrong"),
    (lambda: Net(lambda x: torch.relu(F.layer_norm(x, (6,)))), "third derivatives .* are wrong"),
    (lambda: Net(lambda x: F.layer_norm(x, (6,))).float(), "third derivatives .* are wrong"),
    (lambda: Net(lambda x: torch._weight_norm(x, x[:, :1], 0)), "second derivatives .* are wrong"),
    (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(8, 1))).double(), "weight_norm"),
    (lambda: nn.utils.weight_norm(nn.Linear(8, 1)).double(), "weight_norm"),
    (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 1))).double(), "train mode"),
    (lambda: nn.utils.spectral_norm(nn.Linear(8, 1)).double(), "train mode"),
    (lambda: Net(nn.RReLU()), "train mode"),
    (lambda: Attention(dropout=0.3), "train mode"),
    (lambda: Recurrent(dropout=0.5), "train mode"),
    (lambda: Net(lambda x: F.dropout(x, 0.1)), "other outputs each time"),
    (lambda: Net(fails(KeyError)), "no such thing"),
    (lambda: Net(fails(AssertionError)), "no such thing"),
    (lambda: Net(after=lambda x: x.detach()), "does not depend on the module's weights"),
    (lambda: Net(F.hardsigmoid), "cannot be differentiated often enough"),
    (lambda: Net().half(), "float32 or float64"),
])
@pytest.mark.filterwarnings("ignore")
def test_modules_that_torch_cannot_differentiate_are_refused(build, words):
    module = build()
    x, y = (part.to(next(module.parameters()).dtype) for part in tiny_data(12))
    state = torch.get_rng_state()
    with pytest.raises(GfmError, match=words) as caught:
        gfm.Problem(module, x, y)
    assert "\n" not in str(caught.value)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("build", "loss"), [
    (lambda: Net(torch.relu, hidden=200), "mse"),
    (lambda: Net(torch.relu, hidden=200), lambda out, y: (out - y).abs().mean()),
    (lambda: Net(lambda x: x), "mse"),
    (lambda: nn.Linear(8, 1).double(), lambda out, y: (out * y).mean()),
    (lambda: nn.Linear(8, 1).double(), lambda out, y: (out - y).abs().mean()),
    (lambda: Net(nn.RReLU()).eval(), "mse"),
    (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 1))).double().eval(), "mse"),
    (lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)).double().eval(), "mse"),
    (lambda: Attention(), "mse"),
    (lambda: Recurrent(), "mse"),
    (lambda: Net(lambda x: torch.tanh(x) @ torch.eye(6).to(OWN[0])), "mse"),  # in its own dtype only
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinks_and_vanishing_derivatives_raise_no_alarm(build, loss, dtype):
    with torch.random.fork_rng():
        for seed in range(3):
            torch.manual_seed(seed)
            OWN[0], module = dtype, build().to(dtype)
            problem = gfm.Problem(module, *tiny_data(12, dtype), loss)
            w = problem.w0
            for value in (problem.hvp(w, w), problem.third(w, w, w)):
                assert value.shape == w.shape and torch.isfinite(value).all()


def test_attention_without_weights_has_the_derivatives_of_the_written_out_one():
    module, (x, y) = Attention(), tiny_data(12)
    problem = gfm.Problem(module, x, y)

    def loss(w):
        parts = problem.flat.views(w)
        weight, bias = parts["attention.in_proj_weight"], parts["attention.in_proj_bias"]
        z = x.view(-1, 2, 4)
        q, k, v = (part.view(-1, 2, 2, 2).transpose(1, 2) for part in (z @ weight.T + bias).chunk(3, -1))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, -1) @ v
        out = mixed.transpose(1, 2).reshape(-1, 2, 4) @ parts["attention.out_proj.weight"].T
        out = (out + parts["attention.out_proj.bias"]).flatten(1)[:, :1]
        return 0.5 * (out - y).pow(2).sum(1).mean()

    H = torch.autograd.functional.hessian(loss, problem.w0)
    V = directions(problem, 2)
    assert torch.allclose(problem.hvp(problem.w0, V), H @ V, atol=1e-12)


def test_one_output_an_example_without_an_axis_of_outputs():
    x, y = tiny_data()
    plain = gfm.Problem(Net(), x, y)
    flat = gfm.Problem(Net(after=lambda out: out.squeeze(-1)), x, y[:, 0], batch_size=50)
    w = plain.w0
    assert torch.allclose(flat.loss(w), plain.loss(w))
    assert torch.allclose(flat.hvp(w, w), plain.hvp(w, w))


@pytest.mark.parametrize(("net", "x", "y", "loss", "words"), [
    (lambda: nn.Embedding(5, 3), torch.tensor([0, 1, 2, 3, 4, 0, 7]), torch.zeros(7).long(), "mse", "out of range"),
    (lambda: nn.Embedding(5, 3), torch.arange(5), torch.full((5, 3), 0.5), "cross_entropy", "probabilities"),
    (lambda: nn.Embedding(5, 1), torch.arange(5), torch.ones(5, 1), "cross_entropy", "at least two"),
    (lambda: nn.Embedding(5, 3), torch.arange(4).view(2, 2), torch.tensor([[1, 2], [-1, -1]]), "mse", "masked"),
    (lambda: nn.Embedding(5, 3), torch.arange(5), torch.zeros(5).long(), ["mse"], "unknown loss"),
])
def test_bad_tokens_and_targets_are_refused(net, x, y, loss, words):
    with pytest.raises(GfmError, match=words):
        gfm.Problem(net(), x, y, loss)


def test_eigenpairs_of_weights_that_are_not_finite(problem):
    with pytest.raises(NumericalError, match="NaN or infinity"):
        problem.top_eigenpairs(problem.w0 * float("nan"), 2)


@pytest.mark.parametrize("call", [
    lambda q: q.loss(q.w0[:-1]),
    lambda q: q.loss(q.w0.tolist()),
    lambda q: q.hvp(q.w0, q.w0.tolist()),
    lambda q: q.third(q.w0, q.w0[:, None], q.w0),
    lambda q: q.third(q.w0, q.w0, torch.stack([q.w0, q.w0], 1)),
    lambda q: q.top_eigenpairs(q.w0, 1.5),
    lambda q: q.gradient(q.w0.float()),
    lambda q: q.hvp(q.w0, torch.ones(3, dtype=torch.float64)),
    lambda q: q.hvp(q.w0, torch.ones(q.p, 2)),
    lambda q: q.top_eigenpairs(q.w0, 0),
    lambda q: q.top_eigenpairs(q.w0, q.p + 1),
])
def test_bad_weights_or_directions_are_refused(problem, call):
    with pytest.raises(GfmError):
        call(problem)
