"""What every network must do, and what each claims of itself."""

import pytest
import torch
from torch.func import functional_call

from gfm import nets
from gfm.data import digits
from gfm.data.dataset import one_hot
from gfm.data.sorting import sorting
from gfm.errors import InputError, UnknownNameError
from gfm.problem.flat import Flat

IMAGES, TOKENS = digits(24, 4), sorting(16, length=4)
NAMES = list(nets.available())


def data_for(name):
    return IMAGES if name in nets.available("images") else TOKENS


@pytest.mark.parametrize("size", ["tiny", "book"])
@pytest.mark.parametrize("name", NAMES)
def test_every_network_runs_learns_and_repeats(name, size):
    data = data_for(name)
    net = nets.build(name, data, size=size, seed=3)
    flat = Flat(net)
    assert 50 < flat.p < 10_000
    targets = data.targets if data.targets.is_floating_point() else one_hot(data.targets, data.outputs)
    counted = (targets.sum(-1, keepdim=True) > 0).float()

    def loss(w):
        outputs = functional_call(net, flat.views(w), (data.inputs,))
        assert outputs.shape == targets.shape
        return 0.5 * ((outputs - targets) * counted).square().sum() / counted.sum()

    start = w = flat.flatten(net)
    for _ in range(30):
        v = w.detach().requires_grad_()
        w = v.detach() - 0.02 * torch.autograd.grad(loss(v), v)[0]
    assert torch.isfinite(w).all() and loss(w) < loss(start)

    again = nets.build(name, data, size=size, seed=3)
    assert torch.equal(flat.flatten(again), start)
    assert not torch.equal(flat.flatten(nets.build(name, data, size=size, seed=4)), start)


@pytest.mark.parametrize("name", NAMES)
def test_dtype_keeps_the_weights_and_the_callers_stream_is_untouched(name):
    state = torch.get_rng_state()
    single = nets.build(name, data_for(name), dtype=torch.float32)
    double = nets.build(name, data_for(name), dtype=torch.float64)
    assert torch.equal(state, torch.get_rng_state())
    a, b = Flat(single).flatten(single), Flat(double).flatten(double)
    assert b.dtype == torch.float64 and torch.equal(a.double(), b)
    inputs = data_for(name).to(torch.float64).inputs
    assert double(inputs).dtype == torch.float64


PAPER = {
    "mlp": 853_508,
    "cnn": 544_100,
    "resnet": 293_300,
    "vit": 661_412,
    "lstm": 38_020,
    "transformer": 68_228,
    "mamba": 65_984,
}


@pytest.mark.parametrize("name", PAPER)
def test_paper_sizes_have_the_papers_parameter_counts(name):
    if name in nets.available("images"):
        net = nets.build(name, input_shape=(3, 32, 32), outputs=4, size="paper")
        assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    else:
        net = nets.build(name, input_shape=(15,), outputs=4, vocabulary=4, size="paper")
        assert net(torch.zeros(2, 15, dtype=torch.int64)).shape == (2, 15, 4)
    assert Flat(net).p == PAPER[name]


@pytest.mark.parametrize("name", [name for name in PAPER if name != "mlp"])
def test_the_defaults_of_the_builders_are_the_papers(name):
    assert Flat(getattr(nets, name)()).p == PAPER[name]


def test_a_default_dtype_of_the_caller_changes_no_weight_and_stays():
    plain = nets.build("vit", IMAGES, seed=3)
    torch.set_default_dtype(torch.float64)
    try:
        again = nets.build("vit", IMAGES, seed=3)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(Flat(plain).flatten(plain), Flat(again).flatten(again))


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_zero_heads_give_zero_outputs_at_the_start(name):
    outputs = nets.build(name, IMAGES)(IMAGES.inputs)
    assert torch.equal(outputs, torch.zeros_like(outputs))


@pytest.mark.parametrize("name", ["lstm", "mamba"])
def test_recurrent_networks_do_not_see_later_tokens(name):
    net = nets.build(name, TOKENS, seed=1)
    changed = TOKENS.inputs.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 4
    before, after = net(TOKENS.inputs), net(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=0, rtol=1e-6)


def test_lstm_equals_torchs_own():
    """The cell written out against nn.LSTM, whose gates come in the order i, f, candidate, o."""
    net = nets.lstm(4, 3, width=5, depth=2, dtype=torch.float64, seed=2)
    own = torch.nn.LSTM(5, 5, num_layers=2, batch_first=True, dtype=torch.float64)
    order = torch.cat((torch.arange(10), torch.arange(15, 20), torch.arange(10, 15)))
    with torch.no_grad():
        for i, layer in enumerate(net.layers):
            for ours, theirs in ((layer.inward, "ih"), (layer.recurrent, "hh")):
                getattr(own, f"weight_{theirs}_l{i}").copy_(ours.weight[order])
                getattr(own, f"bias_{theirs}_l{i}").copy_(ours.bias[order])
        x = torch.tensor([[0, 1, 2, 3, 1], [3, 3, 0, 2, 1]])
        expected = net.head(own(net.embed(x))[0])
        torch.testing.assert_close(net(x), expected)


def test_transformer_equals_torchs_own_with_its_norms_exchanged():
    net = nets.transformer(
        4,
        3,
        steps=5,
        width=8,
        depth=1,
        heads=2,
        hidden=12,
        head_scale=1.0,
        dtype=torch.float64,
        seed=2,
    )
    own = torch.nn.TransformerDecoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, dtype=torch.float64
    ).eval()
    layer = net.layers[0]
    own.norm1, own.norm2, own.norm3 = layer.norm1, layer.norm2, layer.norm3
    with torch.no_grad():
        for attention, theirs in ((layer.own, own.self_attn), (layer.cross, own.multihead_attn)):
            theirs.in_proj_weight.copy_(attention.weight)
            theirs.in_proj_bias.copy_(attention.bias)
            theirs.out_proj.load_state_dict(attention.out.state_dict())
        own.linear1.load_state_dict(layer.inner.state_dict())
        own.linear2.load_state_dict(layer.outer.state_dict())
        x = torch.tensor([[0, 1, 2, 3, 1], [3, 3, 0, 2, 1]])
        memory = net.embed(x) + net.positions
        mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
        expected = net.head(own(memory, memory, tgt_mask=mask))
        torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize(
    ("call", "kind", "word"),
    [
        (lambda: nets.build("perceptron", IMAGES), UnknownNameError, "mlp"),
        (lambda: nets.build("mlp", IMAGES, size="huge"), UnknownNameError, "book"),
        (lambda: nets.build("mlp", IMAGES, activation="step"), UnknownNameError, "gelu"),
        (lambda: nets.build("cnn", IMAGES, depth=3), UnknownNameError, "channels"),
        (lambda: nets.build("lstm", TOKENS, activation="gelu"), InputError, "no activation"),
        (lambda: nets.build("lstm", IMAGES), InputError, "tokens"),
        (lambda: nets.build("cnn", TOKENS), InputError, "tokens"),
        (lambda: nets.build("cnn", input_shape=(64,), outputs=2), InputError, "images"),
        (lambda: nets.build("mlp"), InputError, "data set"),
        (lambda: nets.build("resnet", IMAGES, size="paper"), InputError, "multiples of 16"),
        (lambda: nets.cnn((1, 6, 6)), InputError, "halved"),
        (lambda: nets.vit((1, 6, 6)), InputError, "patches"),
        (lambda: nets.vit(width=6), InputError, "multiple of 4"),
        (lambda: nets.transformer(width=9), InputError, "even"),
        (lambda: nets.transformer(width=8, heads=3), InputError, "heads"),
        (lambda: nets.transformer(steps=3)(TOKENS.inputs), InputError, "at most 3"),
        (lambda: nets.mlp((3,)), InputError, "two or more"),
        (lambda: nets.mlp((3, 0, 1)), InputError, "at least 1"),
    ],
)
def test_impossible_networks_are_refused_in_one_sentence(call, kind, word):
    with pytest.raises(kind, match=word):
        call()


@pytest.mark.parametrize("seed", [-1, 2**70, 0.5])
def test_a_seed_that_cannot_be_used_is_refused(seed):
    with pytest.raises(InputError, match="seed"):
        nets.build("mlp", IMAGES, seed=seed)
