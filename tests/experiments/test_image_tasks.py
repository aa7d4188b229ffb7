"""The images of the nowcasting element: which rows, which network, and that each trains."""

from dataclasses import replace

import numpy as np
import pooch
import pytest
import torch
from archives import write_cifar, write_mnist

from gfm.data import digits
from gfm.errors import UnknownNameError
from gfm.experiments.learned.image_tasks import SETS, network, task
from gfm.experiments.learned.nowcast_run import TrainingRun, recorded, trajectories
from gfm.experiments.learned.nowcasting import Nowcasting
from gfm.store import Context

SMALL = {
    "mnist": {"chosen": 100, "train": 90, "test": 25},
    "cifar10": {"chosen": 100, "train": 100, "test": 25},
}
SHORT = {"seeds": 1, "most": 12, "seen": 2, "ahead": (1, 2), "period": 4, "stride": 1, "epochs": 1}
SHORT |= {"fitted_runs": 1, "fitted_steps": 32}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small archives of random images in their canonical layouts; nothing is downloaded."""
    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to download")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    write_mnist(tmp_path / "mnist", rows=120, splits=("t10k",))
    write_cifar(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("GFM_DATA", str(tmp_path))
    for name, sizes in SMALL.items():
        monkeypatch.setitem(SETS, name, replace(SETS[name], **sizes))
    return tmp_path


def rows(images):
    return {np.ascontiguousarray(image).tobytes() for image in images.numpy()}


def test_digits_are_all_images_in_one_random_order():
    plain, data = digits(1500, 10, targets="indices"), task()
    whole = torch.cat([plain.inputs, plain.test_inputs])
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([data.inputs, data.test_inputs]), whole[order])
    assert torch.equal(data.targets, torch.cat([plain.targets, plain.test_targets])[order[:1500]])


def test_digits_still_give_the_numbers_they_gave():
    """The loss after 24 steps, from the sources before other images were to be had."""
    run = TrainingRun(task(), 3e-3, 0)
    while run.steps < 24:
        run.step()
    assert run.test()[0] == pytest.approx(2.09739232, rel=1e-4)


def test_the_perceptron_sees_the_same_digits_as_rows():
    images, rows_ = task(), task("digits-mlp")
    assert torch.equal(rows_.inputs, images.inputs.flatten(1)) and rows_.inputs.shape == (1500, 64)
    assert torch.equal(rows_.test_inputs, images.test_inputs.flatten(1))
    assert torch.equal(rows_.targets, images.targets) and rows_.fingerprint != images.fingerprint


def test_the_perceptron_learns_and_is_recorded_with_its_state():
    states = recorded(task("digits-mlp"), 3e-3, 7, 48, 4)
    assert states.shape == (13, 3, 14_360) and (states[-1, 2] > 0).any()
    run = TrainingRun(task("digits-mlp"), 3e-3, 7)
    before = run.test()[0]
    while run.steps < 48:
        run.step()
    assert run.test()[0] < 0.2 * before


def test_fitted_on_one_network_and_used_on_another():
    own = Nowcasting("affine-flow", data="digits-mlp", **SHORT).compute(Context())
    other = Nowcasting("affine-flow", data="digits-mlp", fitted_on="digits", **SHORT)
    crossed = other.compute(Context())
    assert crossed.info["weights"] == own.info["weights"] == 14_360
    np.testing.assert_array_equal(crossed.arrays["at"][:, [0, 2]], own.arrays["at"][:, [0, 2]])  # same run
    assert (crossed.arrays["at"][:, 1] != own.arrays["at"][:, 1]).any()  # another forecast
    assert other.data_fingerprint() != Nowcasting(data="digits-mlp").data_fingerprint()


def test_mnist_is_split_anew_and_its_parts_share_nothing(folder):
    data = task("mnist")
    assert data.inputs.shape == (90, 1, 28, 28) and data.test_inputs.shape == (25, 1, 28, 28)
    train, test = rows(data.inputs), rows(data.test_inputs)
    assert len(train) == 90 and len(test) == 25 and not train & test
    # from chosen and remaining images, which the loader keeps apart
    assert 0 < len(test & rows(SETS["mnist"].load(100, 10).inputs)) < 25


def test_cifar10_keeps_its_own_test_images(folder):
    data, loaded = task("cifar10"), SETS["cifar10"].load(100, 10, targets="indices")
    assert torch.equal(data.inputs, loaded.inputs) and torch.equal(data.targets, loaded.targets)
    assert torch.equal(data.test_inputs, loaded.test_inputs[:25])
    assert torch.equal(data.test_targets, loaded.test_targets[:25])


@pytest.mark.parametrize("name", list(SETS))
def test_networks_have_about_14400_weights_and_a_graph(folder, name):
    data = task(name)
    net = network(data)
    count = sum(p.numel() for p in net.parameters())
    assert abs(count - 14_400) <= 0.05 * 14_400
    edges = trajectories(np.zeros((1, 2, 3, count)), 3e-3, np.array([[0, 4]]), net).meta["edges"]
    channels = data.inputs.shape[1]
    assert np.shape(edges) == (count, 2)
    if data.inputs.ndim == 2:
        assert np.max(edges) == 64 + 1 + 120 + 1 + 50 + 10  # inputs, and neurons alike
        return
    # neurons from 0: channels and outputs, and one for the biases of each layer but the last
    assert np.max(edges) == channels + 1 + 16 + 1 + 32 + 1 + 32 + 10
    assert net(data.inputs[:3]).shape == (3, 10)


@pytest.mark.parametrize(("name", "weights"), [("mnist", 14_378), ("cifar10", 14_666)])
def test_nowcasting_runs_on_each(folder, name, weights):
    result = Nowcasting("affine-flow", data=name, threshold=0.0, **SHORT).compute(Context())
    assert result.arrays["looks"].sum() >= 1 and np.isfinite(result.arrays["at"]).all()
    assert np.isnan(result.arrays["steps"]).all()  # no loss is as small
    assert result.info["weights"] == weights and result.info["threshold"] == 0.0
    easy = Nowcasting("none", data=name, threshold=100.0, **SHORT).compute(Context())
    assert easy.arrays["steps"].tolist() == [4.0]  # the first evaluation
    own = Nowcasting("none", data=name, **SHORT).compute(Context())
    assert own.info["threshold"] == SETS[name].threshold > 0


def test_the_images_are_part_of_the_key(folder):
    prints = {name: Nowcasting(data=name).data_fingerprint() for name in SETS}
    assert len(set(prints.values())) == len(SETS)
    other = folder / "other"
    write_cifar(other / "cifar-10-batches-bin", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GFM_DATA", str(other))
        assert Nowcasting(data="cifar10").data_fingerprint() != prints["cifar10"]
    assert Nowcasting(data="cifar10").data_fingerprint() == prints["cifar10"]


def test_recorded_runs_are_training_itself(folder):
    states = recorded(task("mnist"), 3e-3, 7, 8, 4)
    run = TrainingRun(task("mnist"), 3e-3, 7)
    assert states.shape == (3, 3, 14_378)
    while run.steps < 8:
        run.step()
    np.testing.assert_array_equal(states[-1], run.state())
    with pytest.raises(ValueError, match="read-only"):
        states[0] = 0


def test_unknown_images():
    with pytest.raises(UnknownNameError, match="cifar10"):
        task("fashion")
