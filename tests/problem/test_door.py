"""What people bring: modules and losses that were once computed wrongly in silence, or failed with a raw error later.

Right values are dense derivatives of the written-out loss in float64, or finite differences of it.
"""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import gfm
from gfm.errors import InputError
from gfm.nets.norms import LayerNorm

WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
#: A loss that computes in float32 only.
NARROW = functools.partial(F.cross_entropy, weight=WEIGHTS)


class Net(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, between=torch.tanh, hidden=6, dtype=torch.float64):
        super().__init__()
        self.first, self.last, self.between = nn.Linear(4, hidden), nn.Linear(hidden, 3), between
        self.to(dtype)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def data(n=12, dtype=torch.float64):
    return torch.randn(n, 4, dtype=dtype), torch.randint(0, 3, (n,))


def away(problem):
    return problem.w0 + 0.3 * torch.randn_like(problem.w0)


def holds(problem, truth, atol=1e-9):
    """Loss, gradient, products with one and three vectors, third derivatives: those of ``truth`` (float64)."""
    w = away(problem)
    V = torch.randn(problem.p, 3, dtype=torch.float64)
    leaf = w.double().requires_grad_()
    g = torch.autograd.functional.jacobian(truth, leaf)
    H = torch.autograd.functional.hessian(truth, leaf)
    bend = torch.autograd.functional.hessian(
        lambda z: torch.autograd.functional.jvp(truth, z, V[:, 0], create_graph=True)[1], leaf) @ V[:, 1]
    V = V.to(w.dtype)
    pairs = [
        (problem.loss(w), truth(leaf)), (problem.at(w).loss, truth(leaf)), (problem.gradient(w), g),
        (problem.hvp(w, V[:, 0]), H @ leaf.new_tensor(V[:, 0].tolist())), (problem.hvp(w, V), H @ V.double()),
        (problem.third(w, V[:, 0], V[:, 1]), bend),
    ]
    for found, right in pairs:
        right = right.detach()
        assert float((found.double() - right).norm()) <= atol * (1 + float(right.norm()))
    return True


def outputs_of(problem, x):
    return lambda w: torch.func.functional_call(problem.module, problem.flat.views(w), (x,))


@pytest.mark.parametrize("size", [12, 400])
def test_a_loss_may_read_the_parameters_or_call_the_module_again(size):
    """Also in a network so large that products are computed by sweeps."""
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    (x, y), extra = data(), torch.randn(9, 4, dtype=torch.float64)
    if size > 12:
        gfm.Problem.batched_limit, before = 0, gfm.Problem.batched_limit
    try:
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
    finally:
        if size > 12:
            gfm.Problem.batched_limit = before


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


def test_weight_decay_keeps_the_products_by_sweeps(monkeypatch):
    monkeypatch.setattr(gfm.Problem, "batched_limit", 0)
    x, y = data()
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    problem = gfm.Problem(net, x, y, "cross_entropy", weight_decay=0.3)
    assert problem.feed_forward is not None
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: F.cross_entropy(out(w), y) + 0.15 * w @ w)


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


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 3)
        self.reentrant = reentrant

    def forward(self, x):
        return self.last(checkpoint(self.first, x, use_reentrant=self.reentrant))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss", ["cross_entropy", NARROW, nn.CrossEntropyLoss(weight=WEIGHTS)])
def test_activation_checkpointing_is_refused_in_any_dtype(loss):
    x, y = data(dtype=torch.float32)
    with pytest.raises(InputError, match="runs Sequential once more .* checkpointing"):
        gfm.Problem(Checkpointed(False), x, y, loss)
    with pytest.raises(InputError, match="first derivatives .* are wrong.* runs Sequential without gradients"):
        gfm.Problem(Checkpointed(True), x, y, loss)


def half_hidden(z):
    return torch.tanh(z) + z.detach()


@pytest.mark.parametrize("loss", ["cross_entropy", NARROW])
@pytest.mark.parametrize(("between", "words"), [
    (half_hidden, "first derivatives .* are wrong: .* where differences of the loss give"),
    (lambda z: F.layer_norm(z, (6,)), "third derivatives .* are wrong: .*NativeLayerNorm"),
    (lambda z: torch._weight_norm(z, z[:, :1], 0), "derivatives .* are wrong: .*WeightNorm"),
    (lambda z: z + (z * 0).norm(dim=1, keepdim=True), "second derivatives .* are not finite"),
    (lambda z: z + (z * 0).abs().sqrt(), "gradient .* is not finite"),
    (lambda z: z / 0.0, "loss .* is (nan|inf)"),
])
def test_wrong_and_missing_derivatives_are_found_also_where_float64_is_out_of_reach(loss, between, words):
    with pytest.raises(InputError, match=words) as caught:
        gfm.Problem(Net(between, dtype=torch.float32), *data(dtype=torch.float32), loss)
    assert "\n" not in str(caught.value) and "say" not in str(caught.value)


def test_which_dtype_was_examined():
    x, y = data(dtype=torch.float32)
    for loss, dtype in (("cross_entropy", torch.float64), (nn.CrossEntropyLoss(weight=WEIGHTS), torch.float64),
                        (NARROW, torch.float32)):
        assert gfm.Problem(Net(dtype=torch.float32), x, y, loss).examined == dtype
    frozen = Net(dtype=torch.float32)
    frozen.first.requires_grad_(False)
    frozen.register_buffer("unused", torch.ones(3))
    assert gfm.Problem(frozen, x, y, "cross_entropy").examined == torch.float64
    assert frozen.first.weight.dtype == torch.float32


@pytest.mark.parametrize("hidden", [5, 300])
@pytest.mark.parametrize("between", [torch.relu, F.leaky_relu, F.hardtanh, F.gelu])
def test_kinks_raise_no_alarm_in_float32(between, hidden):
    for seed in range(4):
        torch.manual_seed(seed)
        gfm.Problem(Net(between, hidden, torch.float32), *data(dtype=torch.float32), NARROW)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.last = kind(2, 4, batch_first=True), nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        return self.last(self.layer(x.view(len(x), 2, 2))[0][:, -1])


class Attending(nn.Module):
    """An encoder layer whose fused norms are replaced by written-out ones."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        self.layer.norm1, self.layer.norm2 = LayerNorm(4), LayerNorm(4)
        self.last = nn.Linear(4, 3)
        self.double()

    def forward(self, x):
        return self.last(self.layer(torch.stack([x, x.flip(1)], 1)).mean(1))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 3).double()

    def forward(self, x):
        z = self.line(x)
        return torch.tanh(z) if z.sum() > 0 else torch.sin(z)


class Filling(nn.Module):
    """Writes into an output that was allocated beforehand: a new tensor, or a buffer."""

    def __init__(self, buffer):
        super().__init__()
        self.line = nn.Linear(4, 3).double()
        self.buffer = buffer
        self.register_buffer("out", torch.zeros(12, 3, dtype=torch.float64))

    def forward(self, x):
        out = self.out[: len(x)] if self.buffer else torch.zeros(len(x), 3, dtype=x.dtype)
        for i in range(3):
            out[:, i] = torch.tanh(self.line(x)[:, i])
        return out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [
    *(functools.partial(Recurrent, kind) for kind in (nn.GRU, nn.LSTM, nn.RNN)),
    lambda: Attending().eval(), lambda: Attending().train(),
    Branching, lambda: Filling(False), lambda: Filling(True),
])
def test_several_vectors_at_once_are_right_whatever_the_layers(build):
    module, (x, y) = build(), data()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    problem = gfm.Problem(module, x, y, "cross_entropy")
    out = outputs_of(problem, x)

    def truth(w):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.cross_entropy(out(w), y)

    if not isinstance(module, Filling):  # its own buffer cannot be used twice
        assert holds(problem, truth)
    run = gfm.central.run(problem, gfm.optimizers.GradientDescent(lr=0.5), steps=3)
    assert all(torch.isfinite(torch.tensor(run[name].loss)).all() for name in ("discrete", "central"))
    assert all(torch.equal(value, start[name]) for name, value in module.state_dict().items())


def test_a_filled_buffer_gives_the_values_of_a_new_tensor():
    x, y = data()
    one, other = Filling(False), Filling(True)
    other.load_state_dict(one.state_dict())
    p, q = (gfm.Problem(module, x, y, "cross_entropy") for module in (one, other))
    w = away(p)
    V = torch.randn(p.p, 2, dtype=torch.float64)
    assert torch.equal(p.gradient(w), q.gradient(w)) and torch.allclose(p.hvp(w, V), q.hvp(w, V), atol=1e-13)


def test_the_loss_without_a_graph_is_the_one_that_is_differentiated():
    problem = gfm.Problem(Attending().eval(), *data(), "cross_entropy")
    w, fast = away(problem), torch.backends.mha.get_fastpath_enabled()
    assert abs(float(problem.loss(w)) - float(problem.at(w).loss)) < 1e-14
    assert torch.backends.mha.get_fastpath_enabled() is fast


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
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


def tokens():
    """A network on tokens and targets of which many do not count."""
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.last = nn.Embedding(7, 4), nn.Linear(4, 3)
            self.double()

        def forward(self, i):
            return self.last(torch.tanh(self.rows(i)))

    targets = torch.randint(0, 3, (8, 5))
    targets[:3, 1:] = -100
    return Words(), torch.randint(0, 7, (8, 5)), targets


def masked(o, t):
    return F.cross_entropy(o.flatten(0, 1), t.flatten(), ignore_index=-100)


def test_pieces_of_a_loss_that_is_no_mean_over_examples():
    module, i, t = tokens()
    with pytest.raises(InputError, match="no mean over examples .* give loss_weight="):
        gfm.Problem(module, i, t, masked, batch_size=2)
    with pytest.raises(InputError, match="no mean over examples"):
        gfm.Problem(module, i, t, masked, batch_size=2, loss_weight=len)  # another weight than the loss's
    whole = gfm.Problem(module, i, t, masked)
    pieces = gfm.Problem(module, i, t, masked, batch_size=2, loss_weight=lambda t: (t != -100).sum())
    w = away(whole)
    V = torch.randn(whole.p, 2, dtype=torch.float64)
    assert torch.allclose(pieces.loss(w), whole.loss(w)) and torch.allclose(pieces.gradient(w), whole.gradient(w))
    assert torch.allclose(pieces.hvp(w, V), whole.hvp(w, V), atol=1e-12)


@pytest.mark.parametrize("loss", [
    nn.CrossEntropyLoss(weight=WEIGHTS.double()), nn.CrossEntropyLoss(reduction="none"),
    nn.CrossEntropyLoss(ignore_index=1), nn.CrossEntropyLoss(weight=WEIGHTS.double(), label_smoothing=0.1),
])
def test_torchs_losses_say_their_weights(loss):
    x, y = data()
    problem = gfm.Problem(Net(), x, y, loss, batch_size=5)
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: loss(out(w), y).mean())


def test_sums_and_batch_statistics_are_refused_in_pieces():
    x, y = data()
    with pytest.raises(InputError, match="no mean over examples"):
        gfm.Problem(Net(), x, y, nn.CrossEntropyLoss(reduction="sum"), batch_size=5)
    with pytest.raises(InputError, match="no mean over examples"):
        gfm.Problem(Net(lambda z: torch.tanh(z - z.mean(0))), x, y, "cross_entropy", batch_size=5)
    gfm.Problem(Net(lambda z: torch.tanh(z - z.mean(0))), x, y, "cross_entropy")


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


def test_examples_by_number():
    x, y = data()
    chosen = torch.tensor([7, 2, 2, 5])
    value, slope = gfm.Problem(Net(), x, y, "cross_entropy", batch_size=3).value_and_gradient(
        (part := gfm.Problem(Net(), x[chosen], y[chosen], "cross_entropy")).w0, chosen)
    right = part.value_and_gradient(part.w0)
    assert torch.allclose(value, part.loss(part.w0)) and torch.allclose(slope, right[1])


def of_list(net):
    kept = list(net.parameters())
    return lambda o, t: F.cross_entropy(o, t) + 0.1 * sum(q.square().sum() for q in kept)


def of_weight(net):
    return lambda o, t, kept=net.first.weight: F.cross_entropy(o, t) + 0.1 * kept.square().sum()


@pytest.mark.parametrize("loss_of", [of_list, of_weight])
def test_parameters_kept_as_objects_are_refused(loss_of):
    net = Net()
    with pytest.raises(InputError, match="use the parameter first.weight|use the parameter .* as an object"):
        gfm.Problem(net, *data(), loss_of(net))
    with pytest.raises(InputError, match="use the parameter first.weight as an object"):
        gfm.Problem(net, *data(), "cross_entropy", penalty=lambda _, kept=net.first.weight: kept.square().sum())


class Caching(Net):
    """Keeps a tensor that it computed from the weights."""

    kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.softmax(self.first.weight, 0)
        return self.last(torch.tanh(F.linear(x, self.kept)))


def test_a_tensor_computed_from_earlier_weights_is_found():
    with pytest.raises(InputError, match="computed from the weights of an earlier call"):
        gfm.Problem(Caching(), *data(), "cross_entropy")


class Wobbling:
    """A loss that changes from call to call."""

    calls = 0

    def __call__(self, o, t):
        self.calls += 1
        return F.cross_entropy(o, t) * (1 + 1e-3 * self.calls)


class Averaging(nn.Module):
    """A loss that writes into a buffer; each evaluation starts from the same one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))

    def forward(self, o, t):
        value = F.cross_entropy(o - self.mean, t)
        self.mean.mul_(0.9).add_(0.1 * o.detach().mean(0))
        return value


def test_losses_and_modules_that_are_no_fixed_function():
    noisy = (lambda o: F.dropout(o, 0.3)), (lambda o: o + 0 * torch.rand(()))
    for loss in (lambda o, t, change=change: F.cross_entropy(change(o), t) for change in noisy):
        with pytest.raises(InputError, match="draws random numbers"):
            gfm.Problem(Net(), *data(), loss)
    rarely = Net(lambda z: torch.tanh(z) * (torch.rand(()) > 1e-9))
    with pytest.raises(InputError, match="draws random numbers"):
        gfm.Problem(rarely, *data(), "cross_entropy")
    with pytest.raises(InputError, match="and then .* no fixed function"):
        gfm.Problem(Net(), *data(), Wobbling())
    problem = gfm.Problem(Net(), *data(), Averaging())
    w = away(problem)
    assert len({float(problem.loss(w)) for _ in range(3)}) == 1


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
    with pytest.raises(InputError, match="layers of the module were exchanged"):
        other.loss(w)


@pytest.mark.parametrize("change", [
    lambda net: {"output": lambda out: 2 * out},
    lambda net: setattr(net[0], "forward", lambda z: 2 * nn.Linear.forward(net[0], z)),
])
def test_products_by_sweeps_are_not_used_where_they_would_be_others(monkeypatch, change):
    monkeypatch.setattr(gfm.Problem, "batched_limit", 0)
    net, (x, y) = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double(), data()
    options = change(net) or {}
    problem = gfm.Problem(net, x, y, "cross_entropy", **options)
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: F.cross_entropy(options.get("output", lambda out: out)(out(w)), y))


@pytest.mark.parametrize("loss", [
    lambda o, t: F.cross_entropy(o, t).sqrt(), nn.CrossEntropyLoss(reduction="sum"),
    lambda o, t: F.cross_entropy(o @ o.T, torch.arange(len(o))),
])
def test_pieces_of_one_example_are_compared_too(loss):
    with pytest.raises(InputError, match="no mean over examples"):
        gfm.Problem(Net(), *data(), loss, batch_size=1)


def test_pieces_are_compared_away_from_a_start_that_hides_the_difference():
    net = Net()
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    with pytest.raises(InputError, match="no mean over examples"):
        gfm.Problem(net, *data(), lambda o, t: F.cross_entropy(o, t) + o.var(0).sum(), batch_size=4)


class Narrow(Net):
    """Returns float32, whatever the weights are."""

    def forward(self, x):
        return super().forward(x).float()


def test_a_cast_inside_is_seen_and_hides_nothing():
    x, y = data(dtype=torch.float32)
    assert gfm.Problem(Narrow(dtype=torch.float32), x, y, "cross_entropy").examined == torch.float32
    with pytest.raises(InputError, match="first derivatives .* are wrong"):
        gfm.Problem(Narrow(half_hidden, dtype=torch.float32), x, y, "cross_entropy")
    for scale in (0.1, 1e-3):  # no false alarm
        small = Narrow(dtype=torch.float32)
        for q in small.parameters():
            q.data.mul_(scale)
        gfm.Problem(small, x, y, "cross_entropy")


class Cast(Net):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x).float()


def test_autocast_inside_is_refused():
    with pytest.raises(InputError, match="computes in bfloat16 in places"):
        gfm.Problem(Cast(dtype=torch.float32), *data(dtype=torch.float32), "cross_entropy")


class Frozen(torch.autograd.Function):
    """tanh whose derivative has none."""

    @staticmethod
    def forward(context, z):
        context.save_for_backward(z)
        return torch.tanh(z)

    @staticmethod
    def backward(context, slope):
        return slope * (1 - torch.tanh(context.saved_tensors[0]).detach() ** 2)


def test_symmetric_but_wrong_second_derivatives_are_found_in_float32():
    x, y = data(dtype=torch.float32)
    for net in (Net, Narrow):
        with pytest.raises(InputError, match="(second|third) derivatives .* are wrong"):
            gfm.Problem(net(Frozen.apply, dtype=torch.float32), x, y, "cross_entropy")


def test_all_examples_are_looked_at_not_the_first_alone():
    x, y = data()
    x = x[x[:, 0].abs().argsort()]

    class Late(Net):
        def forward(self, x):
            out = super().forward(x)
            return torch.where(x[:, :1].abs() > x[:, 0].abs().max() - 1e-9, out.detach(), out)

    with pytest.raises(InputError, match="first derivatives .* are wrong"):
        gfm.Problem(Late(), x, y, "cross_entropy")
    x[5] = 0.0  # not among the few
    bare = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    with pytest.raises(InputError, match="of all examples is not finite"):
        gfm.Problem(bare, x, y, lambda o, t: o.square().sum(1).sqrt().mean())
    y[5] = 7
    with pytest.raises(InputError, match="all examples cannot be differentiated: Target 7"):
        gfm.Problem(Net(), x, y, nn.CrossEntropyLoss())


def test_a_loss_that_ignores_the_first_examples():
    x, y = data()
    y[:5] = 2
    problem = gfm.Problem(Net(), x, y, nn.CrossEntropyLoss(ignore_index=2))
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: F.cross_entropy(out(w), y, ignore_index=2))


class Padding(nn.Module):
    """Takes a branch that does not allow several vectors, on late examples only."""

    def __init__(self):
        super().__init__()
        self.rows, self.line = nn.Embedding(10, 4), nn.Linear(4, 3)
        self.double()

    def forward(self, i):
        h, pad = torch.tanh(self.line(self.rows(i))), i == 0
        if pad.any():
            out = torch.zeros(h.shape, dtype=h.dtype)
            out[~pad] = h[~pad]
            h = out
        return h.mean(1)


def test_several_vectors_are_tried_on_all_examples():
    i = torch.randint(1, 10, (12, 5))
    i[5, 3:] = 0
    y = torch.randint(0, 3, (12,))
    problem = gfm.Problem(Padding(), i, y, "cross_entropy")
    out = outputs_of(problem, i)
    assert not problem.batched and holds(problem, lambda w: F.cross_entropy(out(w), y))


def test_saturated_networks_raise_no_alarm():
    for seed in range(6):
        torch.manual_seed(seed)
        net = Net()
        for q in net.parameters():
            q.data.mul_(1e3)
        gfm.Problem(net, *data(), "cross_entropy")


def test_derivatives_inside_the_forward_pass():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()

        def forward(self, x):
            x = x.detach().requires_grad_()
            return -torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]

    x = data()[0]
    problem = gfm.Problem(Force(), x, torch.zeros_like(x))
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: 0.5 * out(w).square().sum(1).mean())


@pytest.mark.parametrize("examples", [torch.tensor([99]), torch.tensor([0.5]), torch.tensor([], dtype=torch.long), [1]])
def test_examples_that_are_not_there(examples):
    problem = gfm.Problem(Net(), *data(), "cross_entropy")
    with pytest.raises(InputError, match="examples must be"):
        problem.value_and_gradient(problem.w0, examples)


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_large_weights_in_float32_raise_no_alarm(scale):
    """The loss in float32 is too rough for differences there; the examination in float64 decides."""
    layers = [layer for _ in range(10) for layer in (nn.Linear(32, 32), nn.Tanh())]
    net = nn.Sequential(nn.Linear(4, 32), *layers, nn.Linear(32, 3))
    for q in net.parameters():
        q.data.mul_(scale)
    gfm.Problem(net, *data(60, torch.float32), "cross_entropy")


def test_a_fused_norm_of_little_weight_is_refused_where_float64_is_out_of_reach():
    with pytest.raises(InputError, match="third derivatives .* are wrong"):
        gfm.Problem(
            Narrow(lambda z: torch.tanh(z) + 0.01 * F.layer_norm(z, (6,)), dtype=torch.float32),
            *data(dtype=torch.float32), "cross_entropy",
        )
