"""The written-out norms' values, and the finder of fused ones."""

import pytest
import torch
from torch import nn

from gfm import nets
from gfm.errors import InputError


def sample(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_layer_norm_follows_its_formula():
    x = sample(3, 5, 7)
    norm = nets.LayerNorm(7, dtype=torch.float64)
    norm.weight.data, norm.bias.data = sample(7), sample(7) + 1
    expected = norm.weight * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)
    torch.testing.assert_close(norm(x), expected + norm.bias)


def test_group_norm_differs_from_torchs_by_the_unbiased_variance_only():
    x = sample(3, 6, 4, 4)
    count = 3 * 16
    expected = nn.GroupNorm(2, 6, eps=0.0, dtype=torch.float64)(x) * ((count - 1) / count) ** 0.5
    ours = nets.GroupNorm(2, 6, eps=0.0, dtype=torch.float64)
    torch.testing.assert_close(ours(x), expected)


def test_rms_norm_is_torchs():
    x = sample(3, 5)
    torch.testing.assert_close(
        nets.RMSNorm(5, eps=1e-5, dtype=torch.float64)(x),
        nn.RMSNorm(5, eps=1e-5, dtype=torch.float64)(x),
    )


def test_a_constant_row_is_normalised_to_zero_with_finite_gradients():
    x = torch.full((2, 4), 3.0, dtype=torch.float64, requires_grad=True)
    y = nets.LayerNorm(4, dtype=torch.float64)(x)
    assert torch.equal(y, torch.zeros_like(y))
    (g,) = torch.autograd.grad(y.sum(), x)
    assert torch.isfinite(g).all()


def test_fused_norms_are_found_and_named():
    module = nn.Sequential(
        nn.Linear(2, 4), nn.LayerNorm(4), nn.Sequential(nn.BatchNorm1d(4), nn.GroupNorm(2, 4))
    )
    assert nets.fused_norms(module) == ["1 (LayerNorm)", "2.0 (BatchNorm1d)", "2.1 (GroupNorm)"]
    assert nets.fused_norms(nn.RMSNorm(3)) == ["module (RMSNorm)"]
    assert nets.fused_norms(nn.TransformerEncoderLayer(4, 2, 8)) == [
        "norm1 (LayerNorm)",
        "norm2 (LayerNorm)",
    ]
    assert nets.fused_norms(nn.InstanceNorm2d(3)) == ["module (InstanceNorm2d)"]


def test_running_statistics_in_evaluation_mode_are_no_fused_norm():
    assert nets.fused_norms(nn.BatchNorm1d(4).eval()) == []
    assert nets.fused_norms(nn.BatchNorm1d(4, track_running_stats=False).eval()) != []


def test_our_networks_hold_none():
    for name, architecture in nets.available().items():
        shape = (15,) if architecture.takes == "tokens" else (1, 8, 8)
        vocabulary = 4 if architecture.takes == "tokens" else None
        net = nets.build(name, input_shape=shape, outputs=4, vocabulary=vocabulary)
        assert nets.fused_norms(net) == []


def test_impossible_norms_are_refused():
    with pytest.raises(InputError, match="groups"):
        nets.GroupNorm(4, 6)
    with pytest.raises(InputError, match="at least 2"):
        nets.LayerNorm(1)
