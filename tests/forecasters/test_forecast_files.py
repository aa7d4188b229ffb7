"""From checkpoints on disk to forecast weights on disk, with a rule and with something learned."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

import gfm
from gfm.cli.commands import forecast
from gfm.errors import GfmError, InputError, UnknownNameError
from gfm.forecasters.files import forecast_files, save_as_read
from gfm.forecasting.report import NOT_HELD_OUT


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


def test_the_command_says_what_decided_in_place_of_validation_runs(checkpoints, tmp_path, capsys):
    """A fifth of the longer runs for a flow; for a rival, which holds none out, the fitted runs themselves."""
    runs = np.random.default_rng(0).normal(size=(5, 9, 2))
    train = gfm.Trajectories(runs, np.arange(9) * 10).save(tmp_path / "t.npz")
    for method, held in (("affine-flow", "1."), ("lfn", f"{NOT_HELD_OUT}."), ("ols", None)):
        forecast(str(checkpoints), str(tmp_path / "out.npz"), 2, method, str(train))
        told = [line for line in capsys.readouterr().out.splitlines() if "held out" in line]
        assert told == ([] if held is None else [f"Training runs held out to decide on options and epochs: {held}"])


# -- checkpoints out -----------------------------------------------------------------------------
def moving(step, dtype=torch.float32):
    """Weights that move by (1, -2) every ten steps, a counter, running statistics."""
    i = step / 10
    return {"l.weight": torch.tensor([[i, -2 * i]], dtype=dtype), "n.running_var": torch.tensor([1.0 + i]),
            "n.num_batches_tracked": torch.tensor(step)}


def right(step, last, dtype=torch.float32):
    """The forecast state: weights go on, the rest stays as last observed."""
    return {**moving(last, dtype), "l.weight": moving(step, dtype)["l.weight"]}


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in b)


def cli(*words):
    done = commands.gfm(Path.cwd(), "forecast", *map(str, words))
    return done.returncode, done.stdout + done.stderr


def test_in_a_process_of_its_own(checkpoints, tmp_path):
    command = [sys.executable, "-m", "gfm.cli", "forecast", checkpoints, tmp_path / "out.npz", "--horizon", "2",
               "--method", "linear"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "steps 30 (observed) to 50, by linear." in done.stdout and not done.stderr
    np.testing.assert_allclose(gfm.Trajectories.load(tmp_path / "out.npz").weights[0], [[3, -6], [4, -8], [5, -10]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_checkpoint_in_the_format_read(tmp_path, dtype):
    """The dictionary of nanoGPT: settings stay, the counter goes on, what belongs to the state read goes."""
    for step in (0, 10, 20):
        state = {f"_orig_mod.{name}": value for name, value in moving(step, dtype).items()}
        torch.save({"model": state, "optimizer": {"state": {}, "param_groups": []}, "model_args": {"n_layer": 2},
                    "iter_num": step, "best_val_loss": torch.tensor(1.0), "n_seen": 20, "config": {"lr": 0.1}},
                   tmp_path / f"ckpt_{step}.pt")
    code, said = cli(tmp_path, tmp_path / "out" / "later", "--horizon", 3, "--method", "linear", "--as", "checkpoint")
    assert code == 0 and "later.pt" in said, said
    content = torch.load(tmp_path / "out" / "later.pt", weights_only=True)
    state = content.pop("model")
    assert content == {"model_args": {"n_layer": 2}, "iter_num": 50, "config": {"lr": 0.1}}
    assert same(state, {f"_orig_mod.{name}": value for name, value in right(50, 20, dtype).items()})


def test_a_checkpoint_of_safetensors_and_a_folder_of_the_trainer(tmp_path):
    for step in (10, 20):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        save_file(moving(step, torch.bfloat16), folder / "model.safetensors", {"format": "pt"})
        save_file(moving(step), tmp_path / f"step_{step}.safetensors")
        for name in ("config.json", "trainer_state.json", "tokenizer.model"):
            (folder / name).write_text(f'{{"step": {step}}}')
        (folder / "optimizer.pt").write_bytes(b"")
    (tmp_path / "run" / "best.pt").write_bytes(b"")
    code, said = cli(tmp_path / "run", tmp_path / "out", "--horizon", 1, "--method", "linear", "--as", "checkpoint")
    assert code == 0 and "Left out" in said and "best.pt" in said, said
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"config.json", "model.safetensors", "tokenizer.model"}
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert same({name: file.get_tensor(name) for name in file.keys()}, right(30, 20, torch.bfloat16))
    found = forecast_files(tmp_path, 1, "linear", pattern="step_*")
    assert same(load_file(save_as_read(found, tmp_path / "b/a", tmp_path, pattern="step_*")), right(30, 20))
    for path, word in (("b/a.pt", "must end in .safetensors"), ("b/a.npz", "must end in"), ("a", "lies among"),
                       ("b/a", "b/a.safetensors exists"), ("b/a.safetensors", "exists"), ("b", "lies among"),
                       ("run/checkpoint-10", "exists"), ("", "lies among|exists")):
        with pytest.raises(InputError, match=word):
            save_as_read(found, tmp_path / path, tmp_path, pattern="step_*")
    with pytest.raises(InputError, match="exists already"):
        save_as_read(forecast_files(tmp_path / "run", 1, "linear"), tmp_path / "out", tmp_path / "run")


def test_the_users_code_loads_what_is_written(tmp_path):
    """A network with a tied tensor and batch norm, saved as in the tutorials, loads the forecast strictly."""
    net = nn.Sequential(nn.Embedding(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 4, bias=False))
    net[2].weight = net[0].weight
    optimizer, states = torch.optim.SGD(net.parameters(), lr=0.1), []
    for step in range(4):
        torch.save({"epoch": step, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
                    "loss": 0.5}, tmp_path / f"epoch{step}.pt")
        states.append(copy.deepcopy(net.state_dict()))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(torch.arange(4)), torch.arange(4)).backward()
        optimizer.step()
    found = forecast_files(tmp_path, 2, "hold")
    content = torch.load(save_as_read(found, tmp_path / "out" / "later.pt", tmp_path), weights_only=True)
    assert content.keys() == {"epoch", "model_state_dict"} and content["epoch"] == 5
    net.load_state_dict(content["model_state_dict"])
    assert same(dict(net.state_dict()), states[-1])
    state = content["model_state_dict"]
    assert state["0.weight"].data_ptr() == state["2.weight"].data_ptr()


def test_a_module_inside_a_lightning_module_leads_back_to_its_checkpoint(tmp_path):
    """With module= the names are the module's; the checkpoint has those of the Lightning module again."""
    for step in (10, 20):
        state = {"net.weight": torch.full((2, 2), float(step)), "net.bias": torch.zeros(2)}
        torch.save({"epoch": 1, "global_step": step, "state_dict": state, "hyper_parameters": {"lr": 0.1},
                    "optimizer_states": [], "callbacks": {"a": {"best": torch.tensor(1.0)}}},
                   tmp_path / f"epoch=1-step={step}.ckpt")
    net = nn.Linear(2, 2)
    found = forecast_files(tmp_path, 2, "linear", module=net)
    found.load_into(net)
    assert net.weight.tolist() == [[40, 40], [40, 40]] and found.groups[0] == "weight"
    found.load_into(nn.ModuleDict({"net": net}))
    content = torch.load(save_as_read(found, tmp_path / "out" / "later", tmp_path, module=net), weights_only=True)
    assert same(content.pop("state_dict"), {"net.weight": torch.full((2, 2), 40.0), "net.bias": torch.zeros(2)})
    assert content == {"global_step": 40, "hyper_parameters": {"lr": 0.1}}


def test_shards_are_joined_and_a_module_that_was_saved_with_save_model(tmp_path):
    net = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    net[1].weight = net[0].weight
    for step in (1, 2):
        folder = tmp_path / "shards" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        shards = {name: f"model-0000{i}-of-00002.safetensors" for i, name in enumerate(moving(10 * step), 1)}
        for name, value in moving(10 * step).items():
            save_file({name: value}, folder / shards[name])
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        save_model(net, str(tmp_path / f"net_{step}.safetensors"))
    found = forecast_files(tmp_path / "shards", 1, "linear")
    written = save_as_read(found, tmp_path / "out", tmp_path / "shards")
    assert [f.name for f in written.iterdir()] == ["model.safetensors"]
    assert same(load_file(written / "model.safetensors"), right(30, 20))
    found = forecast_files(tmp_path, 1, "hold", pattern="net_*")
    written = save_as_read(found, tmp_path / "out2" / "later", tmp_path, pattern="net_*")
    other = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    other[1].weight = other[0].weight
    load_model(other, written)
    assert torch.equal(other[0].weight, net[0].weight)


def test_values_too_large_for_the_dtype_read_are_refused(tmp_path):
    for step in (1, 2):
        torch.save({"w": torch.tensor([30000.0 * step], dtype=torch.float16)}, tmp_path / f"m_{step}.pt")
    found = forecast_files(tmp_path, 1, "linear")
    with pytest.raises(InputError, match=r"'w' has values too large for torch.float16"):
        save_as_read(found, tmp_path / "out" / "later.pt", tmp_path)
    assert not (tmp_path / "out").exists()


def test_uneven_steps_are_resampled_on_request(tmp_path):
    for step in (0, 10, 40):
        torch.save(moving(step), tmp_path / f"step_{step}.pt")
    code, said = cli(tmp_path, tmp_path / "out.npz", "--horizon", 1, "--method", "linear")
    assert code == 2 and "uneven distances (10, 30 steps)" in said and "stride 10" in said and said.count("\n") == 1
    code, said = cli(tmp_path, tmp_path / "out.npz", "--horizon", 2, "--method", "linear", "--resample", 10)
    data = gfm.Trajectories.load(tmp_path / "out.npz")
    assert code == 0 and data.steps.tolist() == [40, 50, 60]
    assert data.weights[0].tolist() == [[4, -8], [5, -10], [6, -12]]
    module = nn.ModuleDict({"l": nn.Linear(2, 1, bias=False)})
    with pytest.raises(InputError, match="'n.num_batches_tracked', which the module does not have"):
        data.load_into(module)


@pytest.mark.parametrize(("words", "said"), [
    (["--as", "onnx"], "--as must be one of"),
    (["--step", "x"], "must have one group"),
    (["--key", "ema"], "no state dict under the key 'ema'"),
    (["--pattern", "z*"], "matches 'z*'"),
    (["--resample", "7"], "does not divide"),
])
def test_options_that_do_not_fit(checkpoints, tmp_path, words, said):
    code, answer = cli(checkpoints, tmp_path / "out.npz", "--horizon", 1, "--method", "linear", *words)
    assert code == 2 and said in answer and answer.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_a_trajectories_file_has_no_format_for_a_checkpoint(tmp_path):
    data = gfm.Trajectories(np.zeros((1, 3, 2))).save(tmp_path / "data.npz")
    code, said = cli(data, tmp_path / "out", "--horizon", 1, "--method", "hold", "--as", "checkpoint")
    assert code == 2 and "no folder of checkpoints" in said
    with pytest.raises(InputError, match="pattern cannot be used"):
        forecast_files(data, 1, "hold", pattern="*")


def test_what_the_user_has_is_not_written_over(checkpoints, tmp_path):
    before = {file: file.read_bytes() for file in checkpoints.iterdir()}
    for output, kind, words in ((checkpoints / "step_30.pt", "checkpoint", "lies among"),
                                ("", "trajectories", "the path of a"), (checkpoints, "checkpoint", "exists"),
                                (checkpoints, "trajectories", "is a folder")):
        code, said = cli(checkpoints, output, "--horizon", 1, "--method", "hold", "--as", kind)
        assert code == 2 and words in said and said.count("\n") == 1, said
    assert before == {file: file.read_bytes() for file in checkpoints.iterdir()}
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_what_is_given_as_observed_is_said(checkpoints, tmp_path):
    (tmp_path / "empty.npz").touch()
    for observed, words in ((checkpoints / "step_10.pt", "one checkpoint: name the folder"), (None, "must be the path"),
                            ("", "must be the path"), (tmp_path / "empty.npz", "not a complete file")):
        with pytest.raises(GfmError, match=words):
            forecast_files(observed, 1, "hold")


def test_what_is_carried_along_is_named(tmp_path):
    for step in (1, 2):
        torch.save({"w": torch.ones(2) * step, "pe": torch.ones(3), "best_acc": torch.tensor(0.1 * step)},
                   tmp_path / f"m_{step}.pt")
    code, said = cli(tmp_path, tmp_path / "out.npz", "--horizon", 1, "--method", "linear")
    assert code == 0 and "Carried along, not forecast: best_acc, pe." in said and "2 weights" in said


def test_settings_between_the_tensors_go_on(tmp_path):
    for step in (1, 2):
        torch.save({"w": torch.ones(2) * step, "epoch": step, "loss": 0.5, "arch": "mlp"}, tmp_path / f"m_{step}.PT")
    found = forecast_files(tmp_path, 3, "linear")
    written = save_as_read(found, tmp_path / "out" / "later", tmp_path)
    content = torch.load(written, weights_only=True)
    assert written.name == "later.PT" and content.pop("w").tolist() == [5, 5]
    assert content == {"epoch": 5, "arch": "mlp"}


@pytest.mark.parametrize("name", ["model.tar", "model"])
def test_a_checkpoint_like_one_with_another_suffix(tmp_path, checkpoints, name):
    found = forecast_files(checkpoints, 1, "linear")
    (checkpoints / "step_30.pt").rename(tmp_path / name)
    written = found.save_checkpoint(tmp_path / "out" / "a", tmp_path / name)
    assert written.suffix == (tmp_path / name).suffix and torch.load(written, weights_only=True)["b"].tolist() == [-8]
    for like, words in ((None, "like must be the path"), (tmp_path / "none.pt", "none.pt cannot be opened")):
        with pytest.raises(GfmError, match=words):
            found.save_checkpoint(tmp_path / "b", like)
