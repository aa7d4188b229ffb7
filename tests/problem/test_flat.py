"""The flat vector: one place a parameter, views that differentiate, errors in what is given."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from gfm.errors import InputError
from gfm.problem.flat import Flat


def small(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)).to(dtype)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False).double()
        self.b = nn.Linear(3, 3).double()
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(self.a(x))


def test_layout_names_and_sizes():
    flat = Flat(small())
    assert flat.p == 12 + 4 + 4 + 4 + 8 + 2
    assert flat.names == ("0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias")
    assert flat.sizes == (12, 4, 4, 4, 8, 2) and flat.shapes[4:] == ((2, 4), (2,))
    place = torch.arange(34, dtype=torch.float64)
    assert torch.equal(flat.views(place)["3.weight"], torch.arange(24.0, 32.0, dtype=torch.float64).view(2, 4))
    assert flat.dtype == torch.float64


def test_round_trip_through_views_and_load():
    module, flat = small(), Flat(small())
    w = flat.flatten(module)
    views = flat.views(w)
    for name, parameter in module.named_parameters():
        assert torch.equal(views[name], parameter)
    flat.load(module, 2 * w)
    assert torch.equal(flat.flatten(module), 2 * w)
    assert not flat.flatten(module).requires_grad


def test_gradient_through_views_equals_the_modules_own():
    module, flat = small(), Flat(small())
    x = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    w = flat.flatten(module).requires_grad_()
    functional_call(module, flat.views(w), x).square().sum().backward()
    module(x).square().sum().backward()
    own = torch.cat([q.grad.reshape(-1) for q in module.parameters()])
    torch.testing.assert_close(w.grad, own, rtol=1e-13, atol=1e-13)


def test_tied_parameters_have_one_place_and_both_uses_count():
    module = Tied()
    flat = Flat(module)
    assert flat.p == 9 + 3 and flat.names == ("a.weight", "b.bias")
    x = torch.ones(2, 3, dtype=torch.float64)
    w = flat.flatten(module).requires_grad_()
    functional_call(module, flat.views(w), x).square().sum().backward()
    module(x).square().sum().backward()
    torch.testing.assert_close(w.grad[:9], module.a.weight.grad.reshape(-1))
    flat.load(module, torch.zeros(12, dtype=torch.float64))
    assert torch.equal(module.b.weight, torch.zeros(3, 3, dtype=torch.float64))
    assert module.b.weight is module.a.weight


def test_leading_dimensions_are_kept():
    flat = Flat(small())
    w = torch.randn(5, flat.p, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    views = flat.views(w)
    assert views["0.weight"].shape == (5, 4, 3)
    assert torch.equal(views["3.bias"][2], flat.views(w[2])["3.bias"])


def test_frozen_parameters_and_buffers_stay_out():
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)).double()
    module[0].weight.requires_grad_(False)
    flat = Flat(module)
    assert "0.weight" not in flat.names and not any("running" in n for n in flat.names)
    before = module[0].weight.clone(), module[1].running_mean.clone()
    flat.load(module, torch.ones(flat.p, dtype=torch.float64))
    assert torch.equal(module[0].weight, before[0])
    assert torch.equal(module[1].running_mean, before[1])


def test_zero_dimensional_parameters():
    module = nn.Module()
    module.scale = nn.Parameter(torch.tensor(3.0))
    flat = Flat(module)
    assert flat.p == 1 and flat.views(torch.ones(1))["scale"].shape == ()


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: nn.Tanh(), "no trainable parameters"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()), "several dtypes"),
        (lambda: nn.LazyLinear(2), "lazy"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "float32 or float64"),
        (lambda: nn.Linear(2, 2, dtype=torch.float16), "float32 or float64"),
        (lambda: nn.Linear(2, 2, dtype=torch.bfloat16), "float32 or float64"),
        (lambda: "module", "torch.nn.Module"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_modules_are_refused_in_one_sentence(build, word):
    with pytest.raises(InputError, match=word):
        Flat(build())


def test_bad_vectors_and_foreign_modules_are_refused():
    module, flat = small(), Flat(small())
    with pytest.raises(InputError, match="34 weights"):
        flat.views(torch.zeros(33, dtype=torch.float64))
    with pytest.raises(InputError, match="one vector"):
        flat.load(module, torch.zeros(2, 34, dtype=torch.float64))
    with pytest.raises(InputError, match="differ"):
        flat.flatten(nn.Linear(3, 4))
