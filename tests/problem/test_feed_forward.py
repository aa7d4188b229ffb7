"""Products of feed-forward networks against the kept graph of the same problem, and what is no such network."""

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


def both(problem, V):
    """The products by sweeps and on the kept graph."""
    assert problem.feed_forward is None and problem.batched
    slow = problem.at(problem.w0).hvp(V)
    problem.batched, problem.feed_forward = False, FeedForward.of(problem.module, problem.inputs)
    assert problem.feed_forward is not None
    return problem.at(problem.w0).hvp(V), slow


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_products_are_those_of_the_kept_graph(activation, loss):
    problem = problem_of(network_of(activation), loss)
    fast, slow = both(problem, torch.randn(4, problem.p, dtype=torch.float64))
    assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-13)
    assert slow.abs().max() > 1e-3


@pytest.mark.parametrize("options", [{"bias": False}, {"last": (nn.Tanh(),)}, {"last": (nn.SiLU(), nn.Tanh())}])
def test_without_biases_and_with_activations_at_the_end(options):
    problem = problem_of(network_of(nn.GELU(), **options))
    fast, slow = both(problem, torch.randn(2, problem.p, dtype=torch.float64))
    assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-13)


def test_a_users_loss_and_a_loss_linear_in_the_outputs():
    for loss in (lambda o, y: (o - y).pow(4).mean(), lambda o, y: (o * y).mean()):
        problem = problem_of(network_of(nn.Tanh()), loss)
        fast, slow = both(problem, torch.randn(2, problem.p, dtype=torch.float64))
        assert torch.allclose(fast, slow, rtol=1e-10, atol=1e-13)


def test_large_problems_take_it_and_small_ones_do_not():
    small = problem_of(network_of(nn.GELU()))
    assert small.feed_forward is None  # there the network with copies of the weights is faster
    net = nn.Sequential(nn.Linear(200, 100), nn.GELU(), nn.Linear(100, 1))
    large = gfm.Problem(net, torch.randn(300, 200), torch.randn(300, 1))
    assert large.feed_forward is not None
    pieces = gfm.Problem(net, torch.randn(300, 200), torch.randn(300, 1), batch_size=100)
    assert pieces.feed_forward is None


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
