"""Runs, derivatives and fits on a pretended accelerator; started by test_device.py in a process of its own."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerator import DEVICE, FETCHED
from toys import tiny_data, tiny_net

import gfm
from gfm import forecasters, nets
from gfm.central import Minibatch, Settings
from gfm.experiments.central import stored_weights
from gfm.experiments.central.flow_run import FlowRun
from gfm.experiments.central.stationary_points import StationaryPaths, StationaryPoints
from gfm.forecasting.training import Training
from gfm.optimizers import Adam, GradientDescent, HeavyBall, RMSProp, ScalarRMSProp
from gfm.store import Context
from gfm.trajectories import Trajectories

ALL = ("discrete", "midpoint", "stable", "central")


@pytest.fixture(autouse=True)
def _modules_take_other_tensors():
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def problem(where=None, net=tiny_net, data=tiny_data, **options):
    module, (x, y) = net(), data()
    if where is not None:
        module, x, y = module.to(where), x.to(where), y.to(where)
    made = gfm.Problem(module, x, y, **options)
    assert where is None or made.device == where
    return made


def same(one, other):
    assert one.arrays.keys() == other.arrays.keys()
    for name in one.arrays:
        if "seconds" not in name:
            assert np.array_equal(one.arrays[name], other.arrays[name], equal_nan=True), name


def test_the_gate_can_fail():
    with pytest.raises(RuntimeError, match="lies on the processor"):
        torch.ones(3).to(DEVICE) + torch.ones(3)
    before = FETCHED["number"]
    assert float(torch.ones(3).to(DEVICE).sum()) == 3.0 and FETCHED["number"] == before + 1


@pytest.mark.parametrize(("rule", "warmup", "processes"), [
    (GradientDescent(lr=0.8), 30, (*ALL, "rod", "edge")), (HeavyBall(lr=0.4, momentum=0.5), 30, ALL),
    (ScalarRMSProp(lr=0.05, beta2=0.9), 60, ALL), (RMSProp(lr=0.01, beta2=0.9, eps=1e-3), 2, ALL),
    (Adam(lr=0.02), 60, ALL), (GradientDescent(lr=lambda t: 0.8 - 0.001 * t), 60, ALL),
], ids=["descent", "heavy ball", "scalar", "rmsprop", "adam", "schedule"])
def test_runs_at_the_edge_are_the_same(rule, warmup, processes):
    options = {"warmup": warmup, "processes": processes, "keep_weights": 2}
    here, there = (gfm.central.run(problem(where), rule, 4, **options) for where in (None, DEVICE))
    assert np.nanmax(here["central"].sigma) > 0
    for name in processes:
        assert np.array_equal(here[name].loss, there[name].loss)
        assert np.array_equal(here[name].eigenvalues, there[name].eigenvalues, equal_nan=True)
        assert np.array_equal(here[name].weights, there[name].weights)


@pytest.mark.parametrize("settings", [
    Settings(dense=True), Settings(refresh_substeps=True, band=None, substeps=2),
], ids=["dense", "fresh"])
def test_so_are_they_with_other_settings(settings):
    here, there = (gfm.central.run(problem(where), GradientDescent(lr=0.8), 2, processes=["central"], warmup=30,
                                   settings=settings)["central"].loss for where in (None, DEVICE))
    assert np.array_equal(here, there)


def test_runs_by_pieces_of_the_data_with_observables():
    options = {"processes": ["central"], "warmup": 30, "observables": {"square": lambda w: w @ w}}
    here, there = (gfm.central.run(problem(where, batch_size=100), GradientDescent(lr=0.8), 1, **options)["central"]
                   for where in (None, DEVICE))
    assert np.nanmax(here.sigma) > 0
    assert np.array_equal(here.loss, there.loss) and np.array_equal(here.square, there.square)


def test_a_run_goes_on_from_another_device(tmp_path):
    options = {"processes": ("discrete", "midpoint", "central"), "keep_weights": 1, "warmup": 30}

    def kill(done, _):
        if done == 3:
            raise KeyboardInterrupt

    whole = gfm.central.run(problem(), GradientDescent(lr=0.8), 4, **options)
    for first, then in ((DEVICE, None), (None, DEVICE)):
        options |= {"checkpoint": tmp_path / str(first), "checkpoint_every": 2}
        with pytest.raises(KeyboardInterrupt):
            gfm.central.run(problem(first), GradientDescent(lr=0.8), 4, progress=kill, **options)
        seen = []
        again = gfm.central.run(problem(then), GradientDescent(lr=0.8), 4, progress=lambda a, b, s=seen: s.append(a),
                                **options)
        assert seen[0] > 0  # it did not start anew
        for name in options["processes"]:
            assert np.array_equal(whole[name].weights, again[name].weights)


def test_mini_batches():
    here, there = (gfm.central.run(problem(where), GradientDescent(lr=0.3), 10, processes=["minibatch"],
                                   minibatch=Minibatch(batch_size=20))["minibatch"].loss for where in (None, DEVICE))
    assert np.array_equal(here, there)


@pytest.mark.parametrize("net", sorted(nets.available()))
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_derivatives_of_every_network(net, loss):
    run = FlowRun(**{"data": "sorting", "length": 4, "n": 12} if net in nets.available("tokens") else
                  {"data": "digits", "classes": 3, "targets": "one_hot", "n": 12}, net=net, size="tiny", loss=loss)
    found = []
    for where in (None, DEVICE):
        data, module = run.dataset, nets.build(net, run.dataset, size="tiny", dtype=torch.float64)
        x, y = data.inputs, data.targets
        made = gfm.Problem(*((v if where is None else v.to(where)) for v in (module, x, y)), loss)
        v = torch.linspace(-1, 1, made.p, dtype=torch.float64).to(made.device)
        found.append([made.loss(made.w0), made.gradient(made.w0), made.hvp(made.w0, v), made.third(made.w0, v, v)])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(torch.as_tensor(a), torch.as_tensor(b).cpu(), rtol=1e-9, atol=1e-12)


@pytest.fixture
def device(monkeypatch):
    """Experiments compute on the pretended accelerator once this is called."""
    def move():
        monkeypatch.setattr(Context, "device", lambda self, dtype=None: DEVICE)

    return move


SMALL = FlowRun(n=40, hidden=(4,), lr=0.3, steps=6, keep_weights=2, outputs=2, settings=Settings(substeps=2))


def test_an_experiment_is_the_same(device):
    here = SMALL.compute(Context())
    device()
    there = replace(SMALL).compute(Context())
    same(here, there)


def test_what_is_computed_from_stored_weights(device, monkeypatch, tmp_path):
    monkeypatch.setenv("GFM_STORE", str(tmp_path))
    scalar = replace(SMALL, optimizer="scalar_rmsprop", lr=0.06, beta2=0.9, warmup=30, steps=4)
    adaptive = {"optimizer": "rmsprop", "lr": 0.003, "beta2": 0.9, "n": 40, "hidden": (4,), "steps": 8,
                "keep_weights": 2, "outputs": 2, "coordinates": 10**6}
    points = StationaryPoints.from_parameters(every=4, **adaptive)
    paths = StationaryPaths.from_parameters(start=2, length=4, **adaptive)
    rows = scalar.compute(Context()).arrays["central/weights"][-1:]  # at the edge
    found = []
    for move in (None, device):
        if move:
            move()
        found.append([
            stored_weights.sharpness_at(scalar, rows),
            stored_weights.closed_form_along(scalar, rows, np.array([0.03]), np.array([0.9]))["variance"],
            stored_weights.penalty_shares(scalar, rows),
            points.compute(Context()).arrays["nu_still"], paths.compute(Context()).arrays["full_loss"],
        ])
    for a, b in zip(*found, strict=True):
        assert np.array_equal(a, b) and (a > 0).all()


TRAINED = sorted(  # the LSTM's fused kernels need a real one
    {name for name, kind in forecasters.available().items() if "training" in inspect.signature(kind).parameters}
    - {"lstm"})


@pytest.mark.parametrize("name", TRAINED)
def test_networks_are_trained_there(name, monkeypatch):
    rates = np.random.default_rng(0).uniform(0.02, 0.1, (8, 1, 2))
    runs = np.exp(-rates * np.arange(61)[:, None]) + 0.01 * np.random.default_rng(1).normal(size=(8, 61, 2))
    train, held = Trajectories(runs[:6]), Trajectories(runs[6:])
    monkeypatch.setattr("gfm.forecasting.base.usable", lambda device: torch.device(device or "cpu"))
    here, there = (
        forecasters.available()[name](training=Training(epochs=1, batch=8)).fit(train, validation=held, device=where)
        .forecast(held.prefix(6), 54) for where in ("cpu", DEVICE)
    )
    assert np.allclose(here, there, rtol=1e-3, atol=1e-4)
