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


class Fourth(gfm.losses.MeanSquare):
    def rows(self, outputs, targets):
        return ((outputs - targets) ** 4).sum(-1)


def changed_rows():
    loss = gfm.losses.MeanSquare()
    loss.rows = lambda outputs, targets: ((outputs - targets) ** 4).sum(-1)
    return loss


@pytest.mark.parametrize("loss", [lambda o, y: (o - y).pow(4).mean(), Fourth(), changed_rows(), nn.MSELoss()])
def test_other_losses_than_the_named_ones_go_by_the_graph(loss):
    problem = problem_of(network_of(nn.Tanh()), loss)
    assert problem.feed_forward is None
    point = problem.at(problem.w0, 2)
    assert torch.allclose(point.loss, problem.loss(problem.w0))
    U = torch.randn(2, problem.p, dtype=torch.float64)
    for _ in range(2):
        assert point.expand(U).third().abs().max() > 1e-3


@pytest.mark.parametrize("remove", [
    lambda layer: nn.utils.remove_weight_norm(nn.utils.weight_norm(layer)),
    lambda layer: layer.register_parameter("extra", nn.Parameter(torch.ones(1))),
    lambda layer: layer.register_buffer("seen", torch.ones(1)),
])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parameters_in_another_order_or_beside_them_go_by_the_graph(remove):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
    assert FeedForward.of(net, torch.ones(2, 1)) is not None
    remove(net[0])
    assert FeedForward.of(net, torch.ones(2, 1)) is None
    x = torch.randn(8, 1, dtype=torch.float64)
    problem = gfm.Problem(net.double(), x, x.sin())
    assert torch.allclose(problem.at(problem.w0).loss, problem.loss(problem.w0))


def test_a_network_whose_sweeps_differ_from_the_graph_goes_by_the_graph(monkeypatch):
    """Whatever was overlooked: the derivatives are tried when the problem is made."""
    monkeypatch.setattr(FeedForward, "parts", lambda self, w, of=FeedForward.parts: of(self, w * 1.01))
    assert problem_of(network_of(nn.Tanh())).feed_forward is None


def test_what_changes_later_is_seen():
    problem = problem_of(network_of(nn.Tanh()))
    net = problem.module
    assert problem.at(problem.w0).sweeps is not None
    handle = net[2].register_forward_hook(lambda module, given, out: 2 * out)
    hooked = problem.at(problem.w0)
    assert hooked.sweeps is None and torch.allclose(hooked.loss, problem.loss(problem.w0))
    handle.remove()
    with torch.autocast("cpu", torch.bfloat16):
        assert problem.at(problem.w0).sweeps is None
    point = problem.at(problem.w0)
    assert point.sweeps is not None
    problem.inputs.mul_(2)
    with pytest.raises(gfm.errors.InputError, match="changed in place"):
        point.hvp(problem.w0[None])
    other = problem_of(network_of(nn.Tanh()))
    other.module[2] = nn.GELU()
    with pytest.raises(gfm.errors.InputError, match="exchanged"):
        other.at(other.w0)


def test_callers_modes_and_graphs_do_not_matter():
    x, y = torch.randn(12, 2, 3, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    problem = gfm.Problem(network_of(nn.SiLU(inplace=True)).double(), x.requires_grad_(), y)
    U = torch.randn(3, problem.p, dtype=torch.float64)

    def found(rows):
        point = problem.at(problem.w0)
        expansion = point.expand(rows)
        return [point.loss, point.gradient, point.hvp(rows), expansion.third(), problem.third(problem.w0, *rows[:2])]

    usual = found(U)
    with torch.inference_mode():
        same = found(U)
    for others in (same, found(U.clone().requires_grad_())):
        assert all(torch.allclose(a, b) and not b.requires_grad and not b.is_inference()
                   for a, b in zip(usual, others, strict=True))
    assert problem.at(problem.w0).expand(U).against({}) == {}
    assert problem.at(problem.w0).hvp(U[:0]).shape == (0, problem.p)


def test_many_vectors_are_multiplied_in_parts(monkeypatch):
    problem = problem_of(network_of(nn.Tanh()))
    V = torch.randn(7, problem.p, dtype=torch.float64)
    whole = problem.at(problem.w0).hvp(V)
    monkeypatch.setattr(gfm.problem.derivatives, "_AT_ONCE", 3 * problem.at(problem.w0).sweeps.largest)
    assert torch.allclose(problem.at(problem.w0).hvp(V), whole)


def test_weights_so_large_that_their_norm_overflows():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    problem = gfm.Problem(net, torch.randn(6, 3), torch.randn(6, 1))
    w = problem.w0.clone()
    w[:12] *= 3e19
    assert problem.at(w).sweeps is not None and torch.allclose(problem.at(w).loss, problem.loss(w))


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
