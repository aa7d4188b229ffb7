"""What people bring: modules, losses and penalties of many kinds, and calls in many places."""

import functools

import pytest
import torch
from brought import Net, away, data, holds, outputs_of
from torch import nn
from torch.nn import functional as F

import gfm
from gfm.errors import InputError


@pytest.mark.parametrize("limit", [0, 2_000_000])
def test_a_loss_may_read_the_parameters_or_call_the_module_again(monkeypatch, limit):
    """Also in a network so large that products would be computed by sweeps."""
    monkeypatch.setattr(gfm.Problem, "batched_limit", limit)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    (x, y), extra = data(), torch.randn(9, 4, dtype=torch.float64)
    for loss in (
        lambda o, t: F.cross_entropy(o, t) + 0.1 * sum(q.square().sum() for q in net.parameters()),
        lambda o, t: F.cross_entropy(o, t) + net(extra).square().mean(),
    ):
        problem = gfm.Problem(net, x, y, loss)
        assert problem.feed_forward is None

        def truth(w, loss=loss, problem=problem):
            with torch.nn.utils.stateless._reparametrize_module(net, problem.flat.views(w)):
                return loss(net(x), y)

        assert holds(problem, truth)


@pytest.mark.parametrize("batch_size", [None, 5])
def test_penalty_and_weight_decay_are_part_of_the_loss(batch_size):
    x, y = data()
    problem = gfm.Problem(
        Net(), x, y, "cross_entropy", batch_size=batch_size, weight_decay=0.3,
        penalty=lambda named: 0.2 * named["last.weight"].pow(4).sum(),
    )
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: (
        F.cross_entropy(out(w), y) + 0.15 * w @ w + 0.2 * problem.flat.views(w)["last.weight"].pow(4).sum()
    ))


@pytest.mark.parametrize(("options", "words"), [
    ({"penalty": 0.1}, "penalty must be a function"),
    ({"penalty": lambda named: 0.1}, "must return a scalar tensor"),
    ({"penalty": lambda named: named["first.weight"]}, "must return a scalar tensor"),
    ({"weight_decay": -1.0}, "weight_decay must be"),
    ({"weight_decay": float("nan")}, "weight_decay must be"),
    ({"loss_weight": len}, "belongs to a callable loss"),
])
def test_penalties_that_are_none_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        gfm.Problem(Net(), *data(), "cross_entropy", **options)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.no_cover
def test_calls_where_gradients_are_switched_off(context):
    optimizer = gfm.optimizers.RMSProp(lr=0.01, beta2=0.9)

    def everything():
        torch.manual_seed(1)
        x, y = data()
        problem = gfm.Problem(Net(), x, y, "cross_entropy", batch_size=None)
        w, V = away(problem), torch.randn(problem.p, 3, dtype=torch.float64)
        run = gfm.central.run(problem, optimizer, steps=3, w0=w)
        return [problem.loss(w), problem.gradient(w), problem.hvp(w, V), problem.third(w, V[:, 0], V[:, 1]),
                problem.top_eigenpairs(w, 2)[0], torch.tensor(run["central"].loss)]

    right = everything()
    with context():
        found = everything()
    for a, b in zip(found, right, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_mode_of_the_start_counts_and_the_module_stays_as_it_is():
    module = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.BatchNorm1d(50), nn.Linear(50, 3)).double().eval()
    x, y = data()
    problem = gfm.Problem(module, x, y, "cross_entropy")
    w = away(problem)
    right = problem.gradient(w)
    module.train()
    module[2].running_mean.add_(1.0)
    assert torch.equal(problem.gradient(w), right)
    assert module.training and module[1].training and float(module[2].running_mean[0]) == 1.0


@pytest.mark.parametrize("build", [
    lambda: nn.Sequential(nn.Embedding(7, 4, max_norm=0.5), nn.Linear(4, 3)),
    lambda: nn.Sequential(nn.EmbeddingBag(7, 4, max_norm=0.5), nn.Linear(4, 3)),
])
def test_embeddings_that_shorten_their_rows_are_refused_and_unchanged(build):
    module = build().double()
    before = module[0].weight.detach().clone()
    with pytest.raises(InputError, match="max_norm"):
        gfm.Problem(module, torch.randint(0, 7, (12, 5)), torch.randint(0, 3, (12,)), "cross_entropy")
    assert torch.equal(module[0].weight, before)


def test_a_module_that_changes_its_weights_is_refused_and_unchanged():
    class Shortening(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(2 * torch.randn(7, 3))

        def forward(self, i):
            return F.embedding(i, self.rows, max_norm=0.5).mean(1)

    module = Shortening()
    before = module.rows.detach().clone()
    with pytest.raises(InputError, match="changes its own weights"):
        gfm.Problem(module, torch.randint(0, 7, (12, 5)), torch.randint(0, 3, (12,)), "cross_entropy")
    assert torch.equal(module.rows, before)


def inside(wrap):
    net = Net()
    return wrap(net), net


@pytest.mark.parametrize("wrap", [
    nn.DataParallel,
    *(functools.partial(torch.compile, backend=backend) for backend in ("eager", "aot_eager")),
])
def test_wrapped_modules_are_the_modules_inside(wrap):
    wrapped, net = inside(wrap)
    x, y = data()
    problem, right = gfm.Problem(wrapped, x, y, "cross_entropy"), gfm.Problem(net, x, y, "cross_entropy")
    assert problem.module is net
    V = torch.randn(problem.p, 3, dtype=torch.float64)
    assert torch.equal(problem.hvp(problem.w0, V), right.hvp(problem.w0, V))


class Several(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.net, self.kind = Net(), kind

    def forward(self, x):
        out = self.net(x)
        return {"dict": {"logits": out, "loss": None}, "tuple": (out, x), "none": None}[self.kind]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("build", "words"), [
    (lambda: torch.jit.script(nn.Linear(4, 3).double()), "TorchScript"),
    (lambda: nn.Sequential(torch.jit.trace(nn.Linear(4, 3).double(), torch.ones(1, 4).double())), "0 .* TorchScript"),
    (lambda: nn.Linear(4, 3).double().to("meta"), "weight is on the meta device"),
    (lambda: nn.Sequential(nn.DataParallel(Net())), "0 .DataParallel. inside the module"),
    (lambda: Several("dict"), "a dict with 'logits', 'loss', .* output='logits'"),
    (lambda: Several("tuple"), "a tuple of 2, .* output=0"),
    (lambda: Several("none"), "a NoneType"),
])
def test_modules_that_cannot_be_taken_are_refused_with_what_was_seen(build, words):
    with pytest.raises(InputError, match=words) as caught:
        gfm.Problem(build(), *data(), "cross_entropy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "output"), [("dict", "logits"), ("tuple", 0), ("tuple", lambda found: found[0])])
def test_the_outputs_are_selected_from_what_the_module_returns(kind, output):
    x, y = data()
    module = Several(kind)
    problem = gfm.Problem(module, x, y, "cross_entropy", output=output)
    plain = gfm.Problem(module.net, x, y, "cross_entropy")
    w = away(plain)
    assert torch.equal(problem.gradient(w), plain.gradient(w)) and torch.equal(problem.outputs(w), plain.outputs(w))
    with pytest.raises(InputError, match="is not part of"):
        gfm.Problem(module, x, y, "cross_entropy", output="hidden")


def test_layers_exchanged_and_data_changed_later_are_refused():
    net, (x, y) = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), data()
    net[0].weight.requires_grad_(False)
    problem = gfm.Problem(net, x, y, "cross_entropy")
    w = away(problem)
    right = problem.gradient(w)
    net[0].weight.data.mul_(2.0)
    net.float()
    assert torch.equal(problem.gradient(w), right)
    x.mul_(2.0)
    with pytest.raises(InputError, match="data were changed in place"):
        problem.loss(w)
    x.div_(2.0)
    other = gfm.Problem(net.double(), x, y, "cross_entropy")
    net[1] = nn.Sigmoid()
    with pytest.raises(InputError, match="Layers of the module were exchanged"):
        other.loss(w)


def test_a_penalty_on_a_parameter_that_is_not_there():
    with pytest.raises(InputError, match="KeyError: 'head.weight'"):
        gfm.Problem(Net(), *data(), "cross_entropy", penalty=lambda named: named["head.weight"].sum())
