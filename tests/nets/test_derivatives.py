"""The ladder for every network, in float64: each derivative against differences of the one below.

A wrong third derivative (fused norms) is off by 6 % and more; right ones by the differences' own
error, about 1e-9. The bound between them is 1e-6.
"""

import pytest
import torch
from derivatives import (
    difference,
    directions,
    flat_loss,
    gradient,
    half_square,
    hvp,
    relative,
    third,
)
from torch import nn

from gfm import nets
from gfm.data import digits
from gfm.data.sorting import sorting

BOUND = 1e-6


def cross_entropy(outputs, targets):
    flat = outputs.reshape(-1, outputs.shape[-1])
    classes = targets.reshape(flat.shape).argmax(-1)
    return -flat.log_softmax(-1)[torch.arange(len(flat)), classes].mean()


def problem(name, loss=None, **options):
    images = name in nets.available("images")
    data = digits(12, 3, dtype=torch.float64) if images else sorting(6, length=3, vocabulary=3)
    module = nets.build(name, data, size="tiny", dtype=torch.float64, **options)
    return flat_loss(module, data.inputs, loss)


CASES = [(name, loss) for name in nets.available() for loss in (half_square, cross_entropy)]


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_gradient_hessian_and_third_derivative(name, loss):
    f, w = problem(name, loss)
    u, v = directions(w)
    assert relative(gradient(f, w) @ u, difference(f, w, u)) < BOUND
    assert relative(hvp(f, w, u), difference(lambda x: gradient(f, x), w, u)) < BOUND
    assert relative(third(f, w, u, v), difference(lambda x: hvp(f, x, u), w, v)) < BOUND


@pytest.mark.parametrize("name", list(nets.available()))
def test_forward_mode_and_batched_products_agree_with_reverse_mode(name):
    f, w = problem(name)
    u, v = directions(w)
    reference = hvp(f, w, u)
    _, forward = torch.func.jvp(torch.func.grad(f), (w,), (u,))
    assert relative(forward, reference) < 1e-10
    _, twice = torch.func.jvp(lambda x: torch.func.jvp(f, (x,), (u,))[1], (w,), (v,))
    assert relative(twice, reference @ v) < 1e-9
    x = w.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(x), x, create_graph=True)
    (batch,) = torch.autograd.grad(g, x, torch.stack((u, v)), is_grads_batched=True)
    assert relative(batch[0], reference) < 1e-10
    assert relative(batch[1], hvp(f, w, v)) < 1e-10


@pytest.mark.parametrize("activation", [a for a in nets.ACTIVATIONS if a not in ("relu", "elu")])
def test_smooth_activations(activation):
    f, w = problem("mlp", activation=activation)
    u, v = directions(w)
    assert relative(third(f, w, u, v), difference(lambda x: hvp(f, x, u), w, v)) < BOUND


def test_third_derivative_is_symmetric_in_its_three_arguments():
    f, w = problem("resnet")
    u, v, t = directions(w, 3)
    a, b, c = third(f, w, u, v) @ t, third(f, w, v, t) @ u, third(f, w, t, u) @ v
    assert relative(a, b) < 1e-9 and relative(a, c) < 1e-9


NORMS = {
    "layer": lambda: nets.LayerNorm(6, dtype=torch.float64),
    "group": lambda: nets.GroupNorm(2, 6, dtype=torch.float64),
    "rms": lambda: nets.RMSNorm(6, dtype=torch.float64),
}


def with_norm(norm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), norm, nn.Linear(6, 2)).double()
        return module, torch.randn(9, 4, dtype=torch.float64)


@pytest.mark.parametrize("name", NORMS)
def test_our_norms_have_the_right_third_derivative(name):
    f, w = flat_loss(*with_norm(NORMS[name]()))
    u, v = directions(w)
    assert relative(third(f, w, u, v), difference(lambda x: hvp(f, x, u), w, v)) < BOUND


@pytest.mark.parametrize(
    "fused", [nn.LayerNorm(6), nn.BatchNorm1d(6, track_running_stats=False)], ids=["layer", "batch"]
)
def test_the_trap_torchs_fused_norms_have_a_wrong_third_derivative(fused):
    """If this fails, torch has mended them, and fused_norms may let them pass."""
    f, w = flat_loss(*with_norm(fused))
    u, v = directions(w)
    assert relative(hvp(f, w, u), difference(lambda x: gradient(f, x), w, u)) < BOUND
    assert relative(third(f, w, u, v), difference(lambda x: hvp(f, x, u), w, v)) > 0.02


def test_a_batch_norm_with_fixed_statistics_is_right():
    f, w = flat_loss(*with_norm(nn.BatchNorm1d(6).double().eval()))
    u, v = directions(w)
    assert relative(third(f, w, u, v), difference(lambda x: hvp(f, x, u), w, v)) < BOUND
