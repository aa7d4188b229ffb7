"""What a problem takes and what it refuses, in one sentence and before any work."""

import pytest
import torch
from torch import nn
from toys import tiny_data, tiny_net, tiny_problem

import gfm
from gfm.errors import GfmError, NumericalError


@pytest.fixture
def problem():
    return tiny_problem()


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
    (lambda x, y: {"loss": "huber"}, "Unknown loss"),
    (lambda x, y: {"loss": lambda out, target: out - target}, "scalar"),
    (lambda x, y: {"batch_size": 0}, "batch_size"),
    (lambda x, y: {"module": nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.1), nn.Linear(4, 1)).double()}, "train mode"),
    (
        lambda x, y: {"module": nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()},
        "train mode"
    ),
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
    V = torch.randn(problem.p, 2, generator=torch.Generator().manual_seed(3), dtype=problem.dtype)
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
    (lambda: nn.Embedding(5, 3), torch.arange(5), torch.tensor([[1.5, -0.5, 0.0]] * 5), "cross_entropy", "probabilit"),
    (lambda: nn.Embedding(5, 3), torch.arange(5), torch.tensor([0, 1, 2, 0, -1]), "mse", "range from -1 to 2"),
    (lambda: nn.Embedding(5, 1), torch.arange(5), torch.ones(5, 1), "cross_entropy", "at least two"),
    (lambda: nn.Embedding(5, 3), torch.arange(4).view(2, 2), torch.tensor([[1, 2], [-1, -1]]), "mse", "masked"),
    (lambda: nn.Embedding(5, 3), torch.arange(5), torch.zeros(5).long(), ["mse"], "Unknown loss"),
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
