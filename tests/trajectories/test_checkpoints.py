"""Folders of checkpoints: order, content, and what is refused."""

import argparse
import copy
import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gfm.errors import InputError, UnreadableFileError
from gfm.trajectories import Layout, Trajectories, read_checkpoints


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


# -- what people save ----------------------------------------------------------------------------
class Net(nn.Module):
    """Names that are not in alphabetical order, a tied tensor, running statistics, a frozen layer, a buffer."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.body = nn.Linear(3, 3)
        self.fixed = nn.Linear(3, 3).requires_grad_(False)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.wte.weight
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))

    def forward(self, tokens):
        return self.head(self.fixed(self.body(self.norm(self.wte(tokens)))))


def trained(states=4, net=None):
    """A network after 0, 1, 2, ... steps: the state dicts, with shared memory as torch keeps it."""
    torch.manual_seed(0)
    net = Net() if net is None else net
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    tokens = torch.randint(0, 5, (16,))
    for _ in range(states):
        yield copy.deepcopy(net)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(tokens), tokens).backward()
        optimizer.step()


def written(folder, nets, name="step_{}.pt", wrap=lambda state: state, save=torch.save):
    for step, net in enumerate(nets):
        file = folder / name.format(step)
        file.parent.mkdir(parents=True, exist_ok=True)
        save(wrap(net.state_dict()), file)


def vector(net):
    return torch.cat([p.detach().flatten() for p in net.parameters() if p.requires_grad])


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_without_a_module_running_statistics_and_counters_are_carried(tmp_path):
    nets = list(trained(net=nn.Sequential(nn.Embedding(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 5))))
    written(tmp_path, nets)
    data = read_checkpoints(tmp_path)
    assert data.parameters == 15 + 6 + 20
    assert set(data.buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert data.buffers["1.num_batches_tracked"].tolist() == [[0, 1, 2, 3]]
    for step, net in enumerate(nets):
        assert same(data.state_dict(step=step), net.state_dict())
    for part, step in ((data.prefix(1), 1), (data.every(3), 3), (data[[0]], 1)):
        assert same(part.state_dict(step=step), nets[step].state_dict())
    back = Trajectories.load(data.save(tmp_path / "data.npz"))
    assert all(same(back.state_dict(step=i), net.state_dict()) for i, net in enumerate(nets))


def test_spectral_norms_vectors_are_carried(tmp_path):
    for old in (nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm):
        folder = tmp_path / old.__module__
        folder.mkdir()
        for step in (1, 2):
            torch.save(old(nn.Linear(3, 2)).state_dict(), folder / f"m_{step}.pt")
        assert read_checkpoints(folder).parameters == 8


@pytest.mark.parametrize("wrap", [
    lambda s: {"model_state_dict": s, "epoch": 1, "optimizer_state_dict": {}, "loss": torch.tensor(0.1)},
    lambda s: {"model": s, "optimizer": {"state": {}, "param_groups": []}, "model_args": {"n_layer": 2}, "iter_num": 3},
    lambda s: {"state_dict": s, "hyper_parameters": {"model": {"width": 3}}},
    lambda s: {"net": s, "acc": np.float64(93.0), "seen": np.int64(3), "args": argparse.Namespace(lr=0.1, at=[1, 2])},
    lambda s: {"params": s, "params_ema": {k: v + 1 for k, v in s.items()}},
    lambda s: {"state_dict": {"model": s}},
])
def test_state_dicts_in_mappings(tmp_path, wrap):
    nets = [nn.Linear(2, 2) for _ in range(2)]
    written(tmp_path, nets, wrap=wrap)
    np.testing.assert_array_equal(read_checkpoints(tmp_path).weights[0], np.stack([vector(n) for n in nets]))


def test_an_unusual_key_and_two_usual_ones(tmp_path):
    nets = [nn.Linear(2, 2) for _ in range(2)]
    written(tmp_path, nets, wrap=lambda s: {"generator": s, "discriminator": {k: -v for k, v in s.items()}})
    with pytest.raises(UnreadableFileError, match=r"\['generator', 'discriminator'\]; choose one with key="):
        read_checkpoints(tmp_path)
    assert (read_checkpoints(tmp_path, key="discriminator").weights[0, 0] == -vector(nets[0]).numpy()).all()
    with pytest.raises(UnreadableFileError, match="no state dict under the key 'ema'"):
        read_checkpoints(tmp_path, key="ema")
    written(tmp_path, nets, wrap=lambda s: {"model": s, "net": s})
    with pytest.raises(InputError, match="several state dicts .*'model', 'net'"):
        read_checkpoints(tmp_path)


def test_folders_of_the_trainer_also_in_shards(tmp_path):
    nets = [nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)) for _ in range(3)]
    for i, net in enumerate(nets):
        folder, state = tmp_path / f"checkpoint-{500 * (2 * i + 1)}", net.state_dict()
        folder.mkdir()
        for name in ("optimizer.pt", "rng_state.pth", "training_args.bin"):
            (folder / name).write_bytes(b"")
        if i < 2:
            save_file(state, folder / "model.safetensors", {"format": "pt"})
        else:
            shards = {name: f"model-0000{1 + (name > '1')}-of-00002.safetensors" for name in state}
            for shard in set(shards.values()):
                save_file({n: v for n, v in state.items() if shards[n] == shard}, folder / shard)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    save_file(nets[-1].state_dict(), tmp_path / "model.safetensors")  # what trainer.save_model writes at the end
    for pattern in ("*", "*/model.safetensors*"):
        data = read_checkpoints(tmp_path, pattern)
        assert data.steps.tolist() == [500, 1500, 2500]
        np.testing.assert_array_equal(data.weights[0], np.stack([vector(n) for n in nets]))
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnreadableFileError, match="checkpoint-2500/model-00002-of-00002"):
        read_checkpoints(tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="one shard of a checkpoint"):
        read_checkpoints(tmp_path)


def test_an_index_must_agree_with_its_shards(tmp_path):
    for step in (1, 2):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        torch.save({"a": torch.ones(2)}, folder / "pytorch_model-00001-of-00001.bin")
        index = folder / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}))
    assert read_checkpoints(tmp_path).parameters == 2
    shard = "pytorch_model-00001-of-00001.bin"
    for words, wrong in (("see 'b'", {"a": shard, "b": shard}),
                         ("no index of shards", {"a": f"../checkpoint-1/{shard}"})):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(UnreadableFileError, match=words):
            read_checkpoints(tmp_path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_narrow_weights_become_float32_exactly(tmp_path, dtype):
    value = torch.randn(50).to(dtype)
    for step in (1, 2):
        state = {"w": value, "mask": torch.tensor([True]), "ids": torch.arange(3)}
        torch.save(state, tmp_path / f"m_{step}.pt")
    data = read_checkpoints(tmp_path)
    assert data.weights.dtype == np.float32 and torch.equal(torch.tensor(data.weights[0, 0]), value.float())
    state = data.state_dict(step=1)
    assert state["mask"].dtype == torch.bool and state["ids"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("content", "words"), [
    ({}, "m_2.pt is empty"),
    ({"n": torch.tensor(3)}, "m_2.pt has no tensor 'w'"),
    ({"w": torch.ones(2), "x": torch.ones(1)}, "m_2.pt has a tensor 'x', which .*m_1.pt does not have"),
    ({"w": torch.ones(2, dtype=torch.int64)}, "'w' in .*m_2.pt is torch.int64"),
    ({"w": torch.tensor([1.0, float("nan")])}, "'w' in .*m_2.pt holds numbers that are not finite"),
    ({"w": torch.ones(2, dtype=torch.complex64)}, "'w' in .*m_2.pt is complex"),
    ({"w": torch.eye(2).to_sparse()}, "'w' in .*m_2.pt is sparse"),
    ({"w": torch.ones(2), "history": [3]}, "'history' in it is of type list"),
    ({"model": {"w": torch.ones(2), "_extra_state": {}}}, "'_extra_state' in it is of type dict"),
    ([torch.ones(2)], "an object of type list"),
    (torch.optim.SGD([torch.ones(1)], lr=1).state_dict(), "the state of an optimizer"),
    ({"args": functools.partial(int), "model": {"w": torch.ones(2)}}, "objects of functools.partial"),
])
def test_what_a_file_holds_is_said(tmp_path, content, words):
    torch.save({"w": torch.ones(2)}, tmp_path / "m_1.pt")
    torch.save(content, tmp_path / "m_2.pt")
    with pytest.raises((InputError, UnreadableFileError), match=words):
        read_checkpoints(tmp_path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_the_one_corrupt_file_is_named(tmp_path, suffix):
    for step in (1, 2, 3):
        (torch.save if suffix == "pt" else save_file)({"w": torch.ones(200)}, tmp_path / f"m_{step}.{suffix}")
    file = tmp_path / f"m_2.{suffix}"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match=rf"m_2\.{suffix}"):
        read_checkpoints(tmp_path)


def test_what_never_changes_is_carried_unless_it_is_named_as_a_weight(tmp_path):
    constant = {"pos_encoder.pe": torch.rand(3, 2), "attn.bias": torch.ones(1, 1, 2, 2).tril(),
                "rotary.cos_cached": torch.rand(4)}
    for i in (1, 2, 3):
        torch.save({"l.weight": torch.ones(2, 2) * i, "l.bias": torch.zeros(2), "best_acc": torch.tensor(0.1 * i),
                    "masked_bias": torch.tensor(-1e4), **constant, "epoch": i, "arch": "gpt"}, tmp_path / f"m_{i}.pt")
    data = read_checkpoints(tmp_path)
    assert data.layout.names == ("l.weight", "l.bias")
    assert data.meta["carried along"] == sorted([*constant, "best_acc", "masked_bias"])
    state = data.state_dict(step=2)
    assert all(torch.equal(state[name], value) for name, value in constant.items())
    np.testing.assert_allclose(data.buffers["best_acc"], [[0.1, 0.2, 0.3]])
    module = nn.ParameterDict({"a": torch.ones(2), "c": torch.tensor(2.0)})
    for i in (1, 2):
        torch.save({"a": torch.ones(2) * i, "c": torch.tensor(2.0)}, tmp_path / f"p_{i}.pt")
    assert read_checkpoints(tmp_path, "p_*", module=module).parameters == 3


def test_quantized_weights_are_refused(tmp_path):
    for i in (1, 2):
        state = {"l.weight": torch.full((2, 2), i, dtype=torch.int8), "l.scale": torch.rand(2)}
        torch.save(state, tmp_path / f"{i}.pt")
    with pytest.raises(InputError, match="'l.weight' in .* as whole numbers"):
        read_checkpoints(tmp_path)


def test_files_that_are_none_yet(tmp_path):
    save(tmp_path, 1, nn.Linear(1, 1))
    for content, words in ((b"", "is an empty file"),
                           (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull")):
        (tmp_path / "epoch_2.pt").write_bytes(content)
        with pytest.raises(UnreadableFileError, match=words):
            read_checkpoints(tmp_path)
    with pytest.raises(InputError, match="folder must be the path"):
        read_checkpoints(None)


def test_modules_without_values_and_of_inference_mode(tmp_path):
    data = Trajectories(np.arange(12.0).reshape(1, 2, 6), layout=Layout.of(nn.Linear(2, 2)))
    with pytest.raises(InputError, match="'meta'"):
        data.load_into(nn.Linear(2, 2, device="meta"))
    with torch.inference_mode():
        module = nn.Linear(2, 2)
    data.load_into(module)
    assert vector(module).tolist() == list(range(6, 12))
