"""Folders of checkpoints: order, content, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm.errors import InputError, UnreadableFileError
from gfm.trajectories import Trajectories, read_checkpoints


def save(folder, step, module, wrap=None):
    state = module.state_dict()
    torch.save({wrap: state} if wrap else state, folder / f"epoch_{step}.pt")


def test_states_come_in_the_order_of_their_steps(tmp_path):
    modules = [nn.Linear(2, 3) for _ in range(3)]
    for step, module in zip((100, 20, 3), modules, strict=True):
        save(tmp_path, step, module, wrap="state_dict" if step == 20 else None)
    data = read_checkpoints(tmp_path)
    assert data.steps.tolist() == [3, 20, 100] and data.weights.shape == (1, 3, 9)
    flat = torch.cat([p.detach().flatten() for p in modules[2].parameters()])
    np.testing.assert_array_equal(data.weights[0, 0], flat)
    assert data.groups == ("weight",) * 6 + ("bias",) * 3
    some = Trajectories.from_checkpoints(tmp_path, pattern="epoch_*0.pt")
    assert (some.weights == data.weights[:, 1:]).all()


class Hostile:
    def __reduce__(self):
        return (open, ("/dev/null",))


def test_code_in_a_file_is_not_run(tmp_path):
    save(tmp_path, 1, nn.Linear(1, 1))
    torch.save(Hostile(), tmp_path / "epoch_2.pt")
    with pytest.raises(UnreadableFileError, match="plain tensors"):
        read_checkpoints(tmp_path)


def test_what_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError):
        read_checkpoints(tmp_path / "absent")
    save(tmp_path, 1, nn.Linear(1, 1))
    with pytest.raises(InputError, match="two"):
        read_checkpoints(tmp_path)
    save(tmp_path, 2, nn.Linear(2, 1))
    with pytest.raises(InputError, match=r"shape \(1, 2\) in .*epoch_2.pt and \(1, 1\) in .*epoch_1.pt"):
        read_checkpoints(tmp_path)
    (tmp_path / "epoch_2.pt").write_bytes(b"half a file")
    with pytest.raises(UnreadableFileError):
        read_checkpoints(tmp_path)
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "initial.pt")
    with pytest.raises(InputError, match="number"):
        read_checkpoints(tmp_path)
