"""Losses in pieces: those of the whole, or refused."""

import pytest
import torch
from brought import WEIGHTS, Net, away, data, holds, outputs_of
from torch import nn
from torch.nn import functional as F

import gfm
from gfm.errors import InputError


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


def test_examples_by_number():
    x, y = data()
    chosen = torch.tensor([7, 2, 2, 5])
    value, slope = gfm.Problem(Net(), x, y, "cross_entropy", batch_size=3).value_and_gradient(
        (part := gfm.Problem(Net(), x[chosen], y[chosen], "cross_entropy")).w0, chosen)
    right = part.value_and_gradient(part.w0)
    assert torch.allclose(value, part.loss(part.w0)) and torch.allclose(slope, right[1])


@pytest.mark.parametrize("examples", [torch.tensor([99]), torch.tensor([0.5]), torch.tensor([], dtype=torch.long), [1]])
def test_examples_that_are_not_there(examples):
    problem = gfm.Problem(Net(), *data(), "cross_entropy")
    with pytest.raises(InputError, match="examples must be"):
        problem.value_and_gradient(problem.w0, examples)
