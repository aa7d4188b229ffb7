"""Learned forecasters by what their formulas must give for networks and motions that are known."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasters import (
    LFN,
    WNN,
    DLinear,
    DynamicModes,
    Introspection,
    Mixer,
    MonotoneMap,
    NeuralODE,
    NiNoStyle,
    Transformer,
)
from gfm.forecasting.training import Training
from gfm.trajectories import Layout, edges_of

rng = np.random.default_rng(0)
t = np.arange(31)[None, :, None]
ONCE = Training(epochs=1)


class Formula(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def lines(runs=6, parameters=2):
    return Trajectories(rng.normal(size=(runs, 1, parameters)) + t * rng.normal(size=(runs, 1, parameters)))


def generator():
    return torch.Generator().manual_seed(0)


def test_modes_do_not_grow():
    data = Trajectories(rng.normal(size=(3, 1, 2)) * 1.05**t)
    forecast = DynamicModes(10).fit(data).forecast(data.prefix(10))
    np.testing.assert_allclose(forecast, np.repeat(data.weights[:, 10:11], 20, axis=1), rtol=1e-6)


def test_beyond_the_training_weights_the_monotone_map_has_slope_one():
    weights = rng.uniform(size=(20, 1, 1)) + np.where(t > 10, 1.0, 0.0)
    forecast = MonotoneMap(10).fit(Trajectories(weights)).forecast(np.full((1, 11, 1), 3.0))
    np.testing.assert_allclose(forecast, 4.0)


@pytest.mark.parametrize(("cls", "power"), [(LFN, 1), (DLinear, 2)])
def test_the_loss_is_absolute_or_square(cls, power):
    data = lines()
    model = cls(10, training=ONCE).fit(data)
    observed, later = model._tensors(data)
    wrong = (model.module(observed.flatten(0, 1)) - later.flatten(0, 1)).abs()
    torch.testing.assert_close(model._error(observed, later), (wrong**power).mean())


def test_dlinear_with_equal_layers_is_one_layer():
    module = DLinear(10, training=ONCE).fit(lines()).module
    module.rest.load_state_dict(module.trend.state_dict())
    nn.init.zeros_(module.rest.bias)
    x = torch.randn(5, 11)
    torch.testing.assert_close(module(x), module.trend(x))


def test_the_mixers_normalisation_is_undone():
    """With as many steps ahead as observed, and layers that hand their input on, nothing is left of it."""
    data = Trajectories(rng.normal(size=(6, 22, 2)))
    module = Mixer(10, training=ONCE).fit(data).module
    for layer in (module.over_time[-1], module.over_channels[-1], module.out):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.eye_(module.out.weight)
    nn.init.constant_(module.scale, 2.0)
    nn.init.constant_(module.shift, 0.3)
    x = torch.randn(4, 2, 11)
    torch.testing.assert_close(module(x), x, rtol=1e-4, atol=1e-4)


def test_the_neural_ode_follows_its_field():
    """dx/dt = 1 - x from 0 gives 1 - exp(-t), with t from 0 to 1 over the horizon."""
    module = NeuralODE(10, training=ONCE).fit(lines()).module
    module.field = Formula(lambda inputs: 1 - inputs[:, :1])
    last = torch.randn(3, 1)
    found = module(torch.cat([torch.randn(3, 10), last], dim=1))
    expected = last + module.unit * (1 - torch.exp(-torch.arange(1, 21) / 20))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(module.unit))


def test_the_transformer_knows_the_order_of_patches():
    module = Transformer(10, training=ONCE).fit(lines()).module
    x = torch.randn(3, 11, 1)
    swapped = x[:, [0, 1, 5, 6, 7, 2, 3, 4, 8, 9, 10]]

    @torch.no_grad()
    def change() -> float:
        return float((module(x) - module(swapped)).abs().max() / module(x).abs().max())

    known = change()
    nn.init.zeros_(module.code)
    assert change() < 1e-6 < 1e-5 < known  # without the code of places only rounding is left


CONVOLUTIONS = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2))


def of_a_network(net=CONVOLUTIONS, **kept):
    """Random walks of a network's weights, with its graph and tensors."""
    walks = np.cumsum(rng.normal(size=(4, 15, sum(Layout.of(net).sizes))), axis=1)
    return Trajectories(walks, **{"meta": {"edges": edges_of(net)}, "layout": Layout.of(net)} | kept)


def responsive(data, observed=10):
    """A NiNo-style forecaster that makes use of all it sees: what begins at zero is far from it."""
    model = NiNoStyle(observed, training=ONCE, width=8).fit(data)
    for layer in (model.module.head[-1], model.module.kinds):
        nn.init.normal_(layer.weight, generator=generator())
    return model


def test_a_neuron_knows_the_mean_over_its_edges():
    data = lines()
    data.meta["edges"] = [[0, 1], [0, 2]]
    module = NiNoStyle(10, training=ONCE).fit(data).module
    h = torch.tensor([[[1.0], [5.0]]])
    source, target = module._ends(h)
    torch.testing.assert_close(source, torch.tensor([[[3.0], [3.0]]]))
    torch.testing.assert_close(target, h)


def test_the_first_layer_begins_with_increments():
    """A constant added to all states of a weight enters once, through the first state."""
    module = NiNoStyle(10, training=Training(epochs=1, rate=1e-12)).fit(of_a_network()).module
    weight = module.entry.weight.view(64, 9, 5)
    assert weight.sum(-1).abs().max() < 1.001 / 45**0.5 < weight.abs().max()


def test_hidden_neurons_have_no_order():
    """With the hidden channels in another order, the forecast is that of before in this order."""
    data = of_a_network()
    model, numbers, order = responsive(data), torch.arange(data.parameters), [2, 0, 1]
    parts = [part.view(shape) for part, shape in zip(numbers.split(data.layout.sizes), data.layout.shapes, strict=True)]
    parts[:3] = parts[0][order], parts[1][order], parts[2][:, order]
    moved = torch.cat([part.flatten() for part in parts]).numpy()
    prefix = data.prefix(10).weights
    forecast = model.forecast(prefix)
    np.testing.assert_allclose(model.forecast(prefix[..., moved]), forecast[..., moved], rtol=1e-4, atol=1e-4)
    shuffled = rng.permutation(data.parameters)
    assert abs(model.forecast(prefix[..., shuffled]) - forecast[..., shuffled]).max() > 0.1  # not any order will do


def test_a_kernel_is_forecast_as_a_whole():
    data = of_a_network()
    model = responsive(data)
    module = model.module
    assert module.places == 9 and len(module.edges) == 3 + 3 + 6 + 2 + 4 + 2  # 2 channels of 4 features are flattened
    module.messages = nn.ModuleList()  # neighbours would see a change too
    module._scale = lambda states: (torch.zeros(()), torch.ones(()))  # so would the weights of the same tensor
    prefix = data.prefix(10).weights
    other = prefix.copy()
    other[:, :5, 4] += 1.0  # in the middle of the first kernel
    changed = (model.forecast(other) != model.forecast(prefix)).any(axis=(0, 1))
    assert np.flatnonzero(changed).tolist() == list(range(9))


def test_values_are_standardised_per_tensor():
    """A tensor's larger values and changes are forecast as larger, and the other tensors' forecasts stay."""
    data = of_a_network()
    model = responsive(data)
    larger = np.where(np.array(data.groups) == "2.weight", 4.0, 1.0)
    prefix = data.prefix(10).weights
    np.testing.assert_allclose(model.forecast(larger * prefix), larger * model.forecast(prefix), rtol=1e-4, atol=1e-4)
    states = torch.from_numpy(prefix[..., :6, :6]).swapaxes(1, 2).float()
    model = responsive(Trajectories(prefix[..., :6], groups="abbaba"), observed=5)
    mean, size = model.module._scale(states[..., :5])
    for numbers in ([0, 3, 5], [1, 2, 4]):
        own = states[:, numbers, :5]
        torch.testing.assert_close(mean[:, numbers], own.mean((1, 2), keepdim=True).expand(-1, 3, 1))
        torch.testing.assert_close(size[:, numbers], own.std((1, 2), keepdim=True).expand(-1, 3, 1))


def test_types_of_layers():
    dense, kernel, bias = 0, 1, 2
    with_layout = NiNoStyle(10, training=ONCE, width=8).fit(of_a_network())
    assert with_layout.kinds.tolist() == [kernel, bias, kernel, bias, dense, bias]
    of_edges = np.repeat([kernel, bias, kernel, bias, dense, bias], [3, 3, 6, 2, 4, 2])
    assert with_layout.module.kind.tolist() == of_edges.tolist()
    names = Layout.of(CONVOLUTIONS).groups
    by_name = NiNoStyle(10, training=ONCE, width=8).fit(of_a_network(layout=None, groups=names))
    assert dict(zip(np.unique(names), by_name.kinds, strict=True)) == {
        "0.weight": kernel, "0.bias": bias, "2.weight": dense, "2.bias": bias, "4.weight": kernel, "4.bias": bias}
    assert NiNoStyle(10, training=ONCE, width=8).fit(of_a_network(layout=None)).kinds.tolist() == [dense]


def test_the_type_of_a_layer_matters():
    """What is a bias by name is forecast in another way than the same numbers of a weight."""
    data = lines(parameters=4)
    weight, bias = (responsive(Trajectories(data.weights, groups=4 * [name])) for name in ("0.weight", "0.bias"))
    prefix = data.prefix(10).weights
    weight.module.load_state_dict(bias.module.state_dict() | {"kind": weight.module.kind})
    assert (weight.forecast(prefix) != bias.forecast(prefix)).all()
    nn.init.zeros_(bias.module.kinds.weight)
    nn.init.zeros_(weight.module.kinds.weight)
    assert (weight.forecast(prefix) == bias.forecast(prefix)).all()


@pytest.mark.parametrize("edges", [[[0, 1]], [[0, 1], [0]], [[0, 1], [0, -1]], [[0, 1], [0, 0.5]], "01"])
def test_wrong_edges_are_refused(edges):
    data = lines()
    data.meta["edges"] = edges
    with pytest.raises(InputError, match="edges"):
        NiNoStyle(10, training=ONCE).fit(data)


def test_wnn_looks_five_windows_ahead():
    """The network that continues straight lines by that far has no loss on them."""
    data = lines()
    model = WNN(12, training=ONCE).fit(data)
    assert model.back.tolist() == [12, 9, 6, 3, 0] and model.ahead == 15
    series = torch.from_numpy(np.swapaxes(data.weights, 1, 2).reshape(12, 31))
    model.net = Formula(lambda w: w[:, -1:] + (w[:, -1:] - w[:, -2:-1]) / 3 * 15)
    assert model._loss(series, generator()) < 1e-10


def test_introspection_looks_to_twice_the_time():
    data = lines()
    model = Introspection(12, training=ONCE).fit(data)
    series = torch.from_numpy(np.swapaxes(data.weights, 1, 2).reshape(12, 31)).float()
    model.net = Formula(lambda z: z[:, :1])  # as far again as from the start
    assert model._loss(series, generator()) < 1e-5
    np.testing.assert_allclose(model.forecast(data.prefix(12)), data.weights[:, 13:], atol=1e-4)
