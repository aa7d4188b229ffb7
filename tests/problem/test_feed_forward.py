"""Sweeps of feed-forward networks against the kept graph of the same problem, and what is no such network."""

import pytest
import torch
from torch import nn

import gfm
from gfm.problem.feed_forward import FeedForward

ACTIVATIONS = [nn.GELU(), nn.GELU("tanh"), nn.Tanh(), nn.SiLU(), nn.Sigmoid(), nn.Softplus(), nn.Identity()]


def problem_of(module, loss="mse", n=12, outputs=3):
    x = torch.randn(n, 2, 3, dtype=torch.float64)
    y = torch.randint(outputs, (n,)) if loss == "cross_entropy" else torch.randn(n, outputs, dtype=torch.float64)
    return gfm.Problem(module.double(), x, y, loss)


def network_of(activation, bias=True, last=()):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5, bias=bias), activation, nn.Linear(5, 4, bias=bias), activation,
        nn.Linear(4, 3, bias=bias), *last,
    )


def agree(problem, k=4):
    """Value, gradient, products and third derivatives by sweeps are those of the kept graph, and not all zero."""
    assert problem.feed_forward is not None
    U, V = (torch.randn(m, problem.p, dtype=torch.float64) for m in (k, 2))
    w = problem.w0 + 0.3 * torch.randn(problem.p, dtype=torch.float64)

    def found():
        point = problem.at(w, k)
        expansion = point.expand(U)
        against = expansion.against({1: V[0], k - 1: V[1]})
        return [point.loss, point.gradient, point.hvp(U), expansion.image, expansion.third(),
                expansion.third([0, k - 1]), problem.third(w, U[0], V[0]), torch.stack([against[1], against[k - 1]])]

    costs = problem.costs.copy()
    swept, middle = found(), problem.costs.copy()
    problem.feed_forward = None
    kept = found()
    assert middle.since(costs) == problem.costs.since(middle)
    for fast, slow in zip(swept, kept, strict=True):
        assert fast.shape == slow.shape and not fast.requires_grad
        assert torch.allclose(fast, slow, rtol=1e-9, atol=1e-12 * float(slow.abs().max()))
    return kept


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_derivatives_are_those_of_the_kept_graph(activation, loss):
    *_, products, _, thirds, _, _, _ = agree(problem_of(network_of(activation), loss))
    assert products.abs().max() > 1e-3 and thirds.abs().max() > 1e-3


@pytest.mark.parametrize(
    "options", [{"bias": False}, {"last": (nn.Tanh(),)}, {"last": (nn.SiLU(), nn.Tanh())}, {"last": (nn.Identity(),)}]
)
def test_without_biases_and_with_activations_at_the_end(options):
    agree(problem_of(network_of(nn.GELU(), **options)))


@pytest.mark.parametrize(
    "layers", [[nn.Linear(6, 3)], [nn.Linear(6, 3), nn.Tanh()], [nn.Linear(6, 4), nn.Linear(4, 3)]]
)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_networks_of_one_layer_and_without_activations(layers, loss):
    torch.manual_seed(0)
    agree(problem_of(nn.Sequential(nn.Flatten(), *layers), loss))


def test_a_users_loss_and_a_loss_linear_in_the_outputs():
    powers, linear = lambda o, y: (o - y).pow(4).mean(), lambda o, y: (o * y).mean()
    for loss in (powers, linear, lambda o, y: (o - y).square().mean(1)):  # the last gives each example's
        agree(problem_of(network_of(nn.Tanh()), loss))


def test_probabilities_as_targets():
    rows = torch.rand(12, 3, dtype=torch.float64)
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    agree(gfm.Problem(network_of(nn.Tanh()).double(), x, rows / rows.sum(1, keepdim=True), "cross_entropy"))


def test_weight_decay_and_single_precision(monkeypatch):
    x, y = torch.randn(12, 2, 3, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    agree(gfm.Problem(network_of(nn.GELU()).double(), x, y, weight_decay=0.3))
    monkeypatch.setattr(gfm.problem.derivatives, "_TOGETHER", 0)  # one pair after the other
    agree(gfm.Problem(network_of(nn.GELU()).double(), x, y))
    monkeypatch.undo()
    single = gfm.Problem(network_of(nn.GELU()).float(), x.float(), y.float())
    double = gfm.Problem(network_of(nn.GELU()).double(), x, y)
    U = torch.randn(3, single.p)
    thirds = single.at(single.w0).expand(U).third()
    assert thirds.dtype == torch.float32
    exact = double.at(single.w0.double()).expand(U.double()).third()
    assert torch.allclose(thirds.double(), exact, atol=1e-5 * float(exact.abs().max()))


def test_the_full_batch_takes_them_and_pieces_do_not():
    net = nn.Sequential(nn.Linear(200, 100), nn.GELU(), nn.Linear(100, 1))
    x, y = torch.randn(300, 200), torch.randn(300, 1)
    assert gfm.Problem(net, x, y).feed_forward is not None
    assert problem_of(network_of(nn.GELU())).feed_forward is not None
    assert gfm.Problem(net, x, y, batch_size=100).feed_forward is None
    penalised = gfm.Problem(net, x, y, penalty=lambda weights: sum(q.square().sum() for q in weights.values()))
    assert penalised.feed_forward is None


def test_what_is_no_feed_forward_network():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    frozen = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    frozen[0].weight.requires_grad_(False)
    hooked = nn.Sequential(nn.Linear(3, 3))
    hooked[0].register_forward_hook(lambda module, given, out: 2 * out)
    others = [nn.Linear(3, 3), nn.Sequential(), nn.Sequential(nn.Tanh(), nn.Linear(3, 3)),
              nn.Sequential(nn.Linear(3, 3), nn.Softmax(dim=1)), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1))]
    assert all(FeedForward.of(module, torch.ones(2, 3)) is None for module in (tied, frozen, hooked, *others))


@pytest.mark.parametrize("hook", ["register_forward_pre_hook", "register_full_backward_hook"])
def test_a_module_with_any_hook_is_no_feed_forward_network(hook):
    net = nn.Sequential(nn.Linear(3, 3))
    assert FeedForward.of(net, torch.ones(2, 3)) is not None
    getattr(net[0], hook)(lambda *given: None)
    assert FeedForward.of(net, torch.ones(2, 3)) is None


@pytest.mark.parametrize("dims", [(2, 4), (1, 4)])
def test_rows_of_a_sequence_are_multiplied_on_the_kept_graph(dims):
    """A linear layer acts on each row; taking the rows of an example together would be another network."""
    x, y = torch.randn(12, *dims, dtype=torch.float64), torch.randn(12, dims[0], 1, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    assert FeedForward.of(net, x) is None
    assert FeedForward.of(nn.Sequential(nn.Flatten(0), *net), x) is None
    assert FeedForward.of(nn.Sequential(nn.Flatten(), *net), x) is not None
    assert gfm.Problem(net, x, y).batched
