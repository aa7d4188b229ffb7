"""The graph of a network's weights, against small ones written out by hand."""

import numpy as np
import torch
from torch import nn

from gfm.experiments.learned.cost import image_net
from gfm.trajectories import edges_of


def test_a_stack_of_linear_layers():
    edges = edges_of(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)))
    assert len(edges) == 13 and edges[0] == [0, 1] and edges[3] == [0, 4]
    assert edges[4] == [5, 1]  # bias of the first hidden neuron, from its own constant
    assert edges[8] == [1, 6] and edges[12] == [7, 6]


def test_convolutions_by_hand():
    """2 channels -> conv 1x2 -> 2 channels -> four features, two a channel -> 1 output."""
    net = nn.Sequential(
        nn.Conv2d(2, 2, (1, 2)), nn.ReLU(), nn.AvgPool2d((1, 2)), nn.Flatten(),
        nn.Linear(4, 1, bias=False),
    )
    assert net(torch.zeros(3, 2, 1, 5)).shape == (3, 1)
    inputs, hidden, bias, output = (0, 1), (2, 3), 4, 5
    assert edges_of(net) == [
        # weight (o, i, y, x): two taps of each pair of channels, in the order of the flat vector
        [inputs[0], hidden[0]], [inputs[0], hidden[0]], [inputs[1], hidden[0]], [inputs[1], hidden[0]],
        [inputs[0], hidden[1]], [inputs[0], hidden[1]], [inputs[1], hidden[1]], [inputs[1], hidden[1]],
        [bias, hidden[0]], [bias, hidden[1]],
        # flattened: features 0 and 1 are places of channel 0, features 2 and 3 of channel 1
        [hidden[0], output], [hidden[0], output], [hidden[1], output], [hidden[1], output],
    ]  # fmt: skip


def test_edges_say_which_weights_a_channel_meets():
    """A channel that is switched off takes the gradient of exactly its edges with it."""
    torch.manual_seed(0)
    net = image_net((3, 4, 5)).double()
    edges = np.array(edges_of(net))
    x = torch.rand(6, 1, 8, 8, dtype=torch.float64)

    def gradient(zeroed):
        net.zero_grad()
        hidden = net[:4](x)  # the second convolution's four channels, before their activation
        if zeroed is not None:
            hidden = hidden * (torch.arange(4) != zeroed)[None, :, None, None]
        net[4:](hidden).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()]).numpy()

    first = 1 + 3 + 1  # input, first convolution's channels, its biases' neuron
    moves = np.abs(gradient(None)) > 0
    for channel in range(4):
        touches = (edges == first + channel).any(axis=1)
        assert touches.sum() == 3 * 9 + 1 + 5 * 9
        assert (gradient(channel)[touches] == 0).all() and moves[touches].any()


def test_whole_image_network_and_what_has_no_graph():
    edges = edges_of(image_net())
    assert np.shape(edges) == (14_378, 2) and np.max(edges) == 1 + 16 + 1 + 32 + 1 + 32 + 1 + 10
    assert len(set(np.ravel(edges))) == np.max(edges) + 1
    assert edges_of(nn.Sequential(nn.Conv1d(1, 1, 1))) is None
    assert edges_of(nn.Sequential(nn.Conv2d(2, 2, 1, groups=2))) is None
    assert edges_of(nn.Sequential(nn.Conv2d(1, 2, 1), nn.PixelShuffle(1))) is None  # unknown layer
    assert edges_of(nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 1))) is None  # does not fit
    assert edges_of(nn.ReLU()) is None
