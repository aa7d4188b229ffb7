"""The order in which checkpoints hold their weights: told by a module, by names, or not at all; and the way back."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from test_checkpoints import Net, same, trained, vector, written
from torch import nn

import gfm
from gfm.errors import InputError
from gfm.trajectories import Layout, Trajectories, read_checkpoints, record
from gfm.trajectories.layout import in_module_order


def untied(state, file, **options):
    save_file({name: value.clone() for name, value in state.items()}, file, **options)


@pytest.mark.parametrize("kind", ["torch", "shuffled", "safetensors", "save_model", "prefixed", "lightning"])
def test_a_module_gives_order_shapes_buffers_and_ties(tmp_path, kind):
    nets = list(trained())
    match kind:
        case "torch":
            written(tmp_path, nets)
        case "shuffled":
            written(tmp_path, nets, wrap=lambda s: dict(sorted(s.items(), reverse=True)))
        case "safetensors":
            written(tmp_path, nets, "step_{}.safetensors", save=untied)
        case "save_model":
            for step, net in enumerate(nets):
                save_model(net, str(tmp_path / f"step_{step}.safetensors"))
        case "prefixed":
            written(tmp_path, nets, wrap=lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()})
        case "lightning":
            written(tmp_path, nets, "epoch=0-step={}.ckpt",
                    lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "optimizer_states": []})
    data = read_checkpoints(tmp_path, module=Net())
    assert data.parameters == gfm.flat.Flat(Net()).p == 15 + 6 + 12
    for step, net in enumerate(nets):
        np.testing.assert_array_equal(data.weights[0, step], vector(net))
        assert same(data.state_dict(step=step), net.state_dict())
        fresh = Net()
        data.load_into(fresh, step=step)
        assert same(fresh.state_dict(), net.state_dict())
        fresh.load_state_dict(data.state_dict(step=step))
    assert data.groups[:15] == ("wte.weight",) * 15
    assert data.layout == Layout.of(Net())


def test_files_that_do_not_keep_the_order_are_refused_without_a_module(tmp_path):
    nets = list(trained(2))
    written(tmp_path, nets, "step_{}.safetensors", save=untied)
    with pytest.raises(InputError, match="give the module"):
        read_checkpoints(tmp_path)
    data = read_checkpoints(tmp_path, order="file")
    assert data.meta["order"] == "file" and same(data.state_dict(step=1), nets[1].state_dict())
    with pytest.raises(InputError, match="order must be"):
        read_checkpoints(tmp_path, order="names")


def test_numbered_layers_tell_their_order(tmp_path):
    nets = [nn.Sequential(*(nn.Linear(2, 2) for _ in range(12))) for _ in range(2)]
    written(tmp_path, nets, "step_{}.safetensors", save=untied)  # "10.bias" comes before "2.bias"
    data = read_checkpoints(tmp_path)
    np.testing.assert_array_equal(data.weights[0], np.stack([vector(n) for n in nets]))
    assert data.meta["order"] == "names" and "order" not in read_checkpoints(tmp_path, module=nets[0]).meta


@pytest.mark.parametrize(("names", "order"), [
    (["bias", "weight"], ["weight", "bias"]),
    (["0.bias", "0.weight", "10.weight", "2.weight"], ["0.weight", "0.bias", "2.weight", "10.weight"]),
    (["net.0.weight", "net.2.weight"], ["net.0.weight", "net.2.weight"]),
    (["h.0.weight", "wte.weight"], None),
    (["a", "b"], None),
    (["fc1.weight", "fc2.weight"], None),
])
def test_what_names_tell_about_the_order(names, order):
    assert in_module_order(names) == order


def test_equal_content_is_no_tie_but_shared_memory_is(tmp_path):
    w = torch.ones(3)
    for step in (1, 2):
        save_file({"0.weight": w, "1.weight": w.clone()}, tmp_path / f"a_{step}.safetensors")
        torch.save({"0.weight": w, "1.weight": w}, tmp_path / f"b_{step}.pt")
    assert read_checkpoints(tmp_path, "a_*").parameters == 6
    data = read_checkpoints(tmp_path, "b_*")
    assert data.parameters == 3 and list(data.state_dict()) == ["0.weight", "1.weight"]
    torch.save({"0.weight": w, "1.weight": 2 * w}, tmp_path / "b_3.pt")
    with pytest.raises(InputError, match="'1.weight' and '0.weight' differ in .*b_3.pt"):
        read_checkpoints(tmp_path, "b_*")


def test_a_module_of_another_kind_is_refused(tmp_path):
    written(tmp_path, [nn.Linear(2, 2)] * 2)
    for module, words in ((nn.Linear(2, 2, bias=False), "a tensor 'bias', which the module does not have"),
                          (nn.Sequential(nn.Linear(2, 2)), "no tensor '0.weight', which the module has"),
                          (nn.Linear(3, 2), r"\(2, 2\) in .* and \(2, 3\) in the module"),
                          (nn.LazyLinear(2), "lazy"), (3, "torch.nn.Module is needed")):
        with pytest.raises(InputError, match=words):
            read_checkpoints(tmp_path, module=module)


# -- the way back --------------------------------------------------------------------------------
def test_a_prefix_comes_back_as_it_was_read(tmp_path):
    nets = [nn.Linear(2, 2) for _ in range(2)]
    written(tmp_path, nets, wrap=lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()})
    data = read_checkpoints(tmp_path)
    assert list(data.state_dict()) == ["_orig_mod.module.weight", "_orig_mod.module.bias"]
    assert data.groups == ("weight",) * 4 + ("bias",) * 2
    for module in (nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2)), torch.compile(nn.Linear(2, 2))):
        data.load_into(module)
        assert torch.equal(vector(module), vector(nets[1]))


def test_a_module_that_does_not_fit_stays_as_it_is(tmp_path):
    written(tmp_path, [nn.Linear(2, 2)] * 2)
    data = read_checkpoints(tmp_path)
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(InputError, match="no tensor '0.weight'"):
        data.load_into(module)
    assert same(module.state_dict(), before)
    for call, words in ((lambda: data.state_dict(run=1), "no run 1"),
                        (lambda: data.state_dict(step=5), "that of step 1"),
                        (lambda: Trajectories(data.weights).load_into(module), "layout=")):
        with pytest.raises(InputError, match=words):
            call()


def test_untied_values_do_not_enter_a_tied_module():
    data = Trajectories(np.arange(24.0).reshape(1, 2, 12),
                        layout=Layout(("wte.weight", "head.weight"), ((2, 3), (2, 3))))
    module = nn.Module()
    module.wte, module.head = nn.Embedding(2, 3), nn.Linear(3, 2, bias=False)
    module.head.weight = module.wte.weight
    with pytest.raises(InputError, match="differ in the trajectory, but are one tensor in the module"):
        data.load_into(module)


def test_recorded_runs_lead_back_too():
    x = torch.randn(8, 3)
    data = record(lambda: nn.Linear(3, 1), x, x[:, :1], nn.functional.mse_loss, runs=2, steps=3, lr=0.1)
    module = nn.Linear(3, 1)
    data.load_into(module, run=1, step=2)
    np.testing.assert_array_equal(vector(module), data.weights[1, 2])
    with pytest.raises(InputError, match="frozen"):
        record(lambda: nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1).requires_grad_(False)), x, x[:, :1],
               nn.functional.mse_loss, runs=2, steps=3)
