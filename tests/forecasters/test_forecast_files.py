"""From checkpoints on disk to forecast weights on disk, with a rule and with something learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gfm
from gfm.errors import GfmError, InputError, UnknownNameError
from gfm.forecasters.files import forecast_files


@pytest.fixture
def checkpoints(tmp_path):
    """Weights that move by (1, -2) every ten steps, in two tensors."""
    folder = tmp_path / "run"
    folder.mkdir()
    for i in range(4):
        state = {"a": torch.tensor([1.0 * i]), "b": torch.tensor([-2.0 * i])}
        torch.save(state, folder / f"step_{10 * i}.pt")
    return folder


def test_a_rule_continues_checkpoints(checkpoints):
    found = forecast_files(checkpoints, 2, "linear")
    np.testing.assert_allclose(found.weights[0], [[3, -6], [4, -8], [5, -10]])
    assert list(found.steps) == [30, 40, 50] and found.groups == ("a", "b")


def test_learning_from_longer_runs_reproduces_a_linear_map(tmp_path):
    """Exponential decays: regression on the prefix is exact, and the file comes back as it was saved."""
    start = np.random.default_rng(0).normal(size=(40, 1, 3))
    decay = 0.9 ** np.arange(13)[None, :, None] * start
    longer = gfm.Trajectories(decay[:30]).save(tmp_path / "train.npz")
    prefix = gfm.Trajectories(decay[30:, :5]).save(tmp_path / "prefix.npz")
    found = forecast_files(prefix, 8, "ols", longer)
    saved = gfm.Trajectories.load(found.save(tmp_path / "out.npz"))
    np.testing.assert_allclose(saved.weights[:, 1:], decay[30:, 5:], rtol=1e-6)
    assert list(saved.steps) == list(range(4, 13))


@pytest.mark.parametrize("method, error, word", [
    ("magic", UnknownNameError, "Unknown forecaster"), ("ols", InputError, "--train")])
def test_what_makes_no_sense(checkpoints, method, error, word):
    with pytest.raises(error, match=word):
        forecast_files(checkpoints, 2, method)


def test_other_distances_and_missing_files(checkpoints, tmp_path):
    train = gfm.Trajectories(np.random.default_rng(0).normal(size=(3, 9, 2))).save(tmp_path / "t.npz")
    with pytest.raises(InputError, match="different distances"):
        forecast_files(checkpoints, 2, "ols", train)
    with pytest.raises(GfmError):
        forecast_files(tmp_path / "nothing.npz", 2, "hold")
