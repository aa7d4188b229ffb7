"""Products with several vectors at once: right whatever the layers, together or one after the other."""

import functools

import pytest
import torch
from brought import away, data, holds, outputs_of
from torch import nn
from torch.nn import functional as F

import gfm
from gfm.nets.norms import LayerNorm


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
@pytest.mark.no_cover
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


def test_weight_decay_keeps_the_products_by_sweeps(monkeypatch):
    monkeypatch.setattr(gfm.Problem, "batched_limit", 0)
    x, y = data()
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    problem = gfm.Problem(net, x, y, "cross_entropy", weight_decay=0.3)
    assert problem.feed_forward is not None
    out = outputs_of(problem, x)
    assert holds(problem, lambda w: F.cross_entropy(out(w), y) + 0.15 * w @ w)


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
