"""Which files are the checkpoints of a run, and at which step; names that leave a choice are refused."""

import numpy as np
import pytest
import torch

from gfm.errors import InputError, UnreadableFileError
from gfm.trajectories import read_checkpoints


@pytest.fixture
def read(tmp_path):
    """Steps and values of files that hold 0, 1, 2, ... in the order in which they are named."""

    def reading(*names, **options):
        for value, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            torch.save({"w": torch.tensor([float(value)])}, tmp_path / name)
        data = read_checkpoints(tmp_path, **options)
        return dict(zip(data.steps.tolist(), data.weights[0, :, 0].tolist(), strict=True))

    return reading


@pytest.mark.parametrize(("names", "steps"), [
    (("step_10000.pt", "step_9000.pt", "step_500.pt"), (10000, 9000, 500)),
    (("m_1.pt", "m_2.pth"), (1, 2)),
    (("STEP1.PT", "STEP2.Pth"), (1, 2)),
    (("step_7_64.pt", "step_9_64.pt"), (7, 9)),
    (("3.pt", "12.pt"), (3, 12)),
    (("model000500.pt", "model001000.pt"), (500, 1000)),
    (("ckpt3.pth.tar", "ckpt12.pth.tar"), (3, 12)),
    (("epoch=1-step=100.ckpt", "epoch=2-step=200.ckpt"), (100, 200)),
    (("epoch=1-step=100-v1.ckpt", "epoch=2-step=200-v2.ckpt"), (100, 200)),
    (("checkpoint_epoch2_loss0.5120.pt", "checkpoint_epoch10_loss0.0841.pt"), (2, 10)),
    (("epoch=03-val_loss=0.33.ckpt", "epoch=14-val_loss=0.12.ckpt"), (3, 14)),
    (("best-epoch=14-val_loss=0.33.ckpt", "best-epoch=15-val_loss=0.31.ckpt"), (14, 15)),
    (("2024-02-01_step_300.pt", "2024-01-31_step_400.pt"), (300, 400)),
    (("run_20240131_120000_step5.pt", "run_20240131_120500_step10.pt"), (5, 10)),
    (("ckpt_3fa9c2_step_10.pt", "ckpt_77b01e_step_20.pt"), (10, 20)),
    (("resnet18_500.pt", "resnet18_1000.pt"), (500, 1000)),
    (("seed3_lr1e-3_iter_7.pt", "seed3_lr1e-3_iter_9.pt"), (7, 9)),
    (("checkpoint-500-epoch-1.pt", "checkpoint-1000-epoch-2.pt"), (500, 1000)),
    (("global_step100_epoch3_acc93.pt", "global_step200_epoch3_acc91.pt"), (100, 200)),
    (("500_steps.pt", "1000_steps.pt"), (500, 1000)),
    (("500steps.pt", "1000steps.pt"), (500, 1000)),
    (("iter_num_5.pt", "iter_num_6.pt"), (5, 6)),
    (("epoch_1_step_100.pt", "epoch_2_step_100.pt"), (1, 2)),  # all share the step of their epoch
    (("epoch_1/model.pt", "epoch_2/model.pt"), (1, 2)),
    (("epoch_1/model_epoch_1.pt", "epoch_2/model_epoch_2.pt"), (1, 2)),
])
def test_the_step_in_a_name(read, names, steps):
    assert read(*names) == {step: float(i) for i, step in enumerate(steps)}


@pytest.mark.parametrize(("names", "words"), [
    (("2024-01-31_run.pt", "2024-02-01_run.pt"), "no number"),
    (("20240131_000500.pt", "20240131_001000.pt"), "no number"),  # a time, or a step?
    (("31-01-2024.pt", "01-02-2024.pt"), "no number"),
    (("loss0.93.pt", "loss0.51.pt"), "no number"),
    (("acc93.pt", "acc95.pt"), "no number"),
    (("3fa9c2.pt", "77b01e.pt"), "no number"),
    (("a1234567.pt", "b7654321.pt"), "different ways"),
    (("model-v1.pt", "model-v2.pt"), "no number"),
    (("step_10k.pt", "step_20k.pt"), "no number"),
    (("seed_1.pt", "seed_2.pt"), "no number"),
    (("step_500.pt", "step_1k.pt"), "no number"),
    (("checkpoint_1_500.pt", "checkpoint_2_900.pt"), "several numbers"),
    (("epoch_1_93.pt", "epoch_2_95.pt"), "several numbers"),
    (("m_1_2.pt", "m_2_3.pt"), "several numbers"),
    (("iter_1_step_3.pt", "iter_2_step_5.pt"), "several numbers"),
    (("step_100.pt", "epoch_3.pt"), "different ways"),
    (("epoch=-1.ckpt", "epoch=0.ckpt"), "no number"),
    (("sgd_step_100.pt", "adam_step_200.pt"), "different ways"),  # two runs
    (("seed1_step_100.pt", "seed2_step_200.pt"), "seed1 and seed2 in their names.* different runs"),
    (("lr=0.1-epoch=1.ckpt", "lr=0.01-epoch=2.ckpt"), "different runs"),
    (("runA-step_1/model.pt", "runB-step_2/model.pt"), "different ways"),
    (("step_1.pt", "step_2.pt", "step_2.safetensors"), "both have the step 2"),
    (("epoch_1_iter_500.pt", "epoch_2_iter_100.pt"), "larger epoch"),  # iterations begin anew
    (("epoch=1-step=100.ckpt", "epoch=1-step=100-v1.ckpt"), "same step"),
    (("epoch=1-step=100.ckpt", "epoch=1-step=100-v1.ckpt", "epoch=2-step=200.ckpt"), "both have the step 100"),
    (("step_1.pt", "step_01.pt"), "same step"),
    (("m_1.pt", "m_2.pt", "initial.pt"), "initial.pt has no number"),
    (("run1/step_1/model.pt", "run2/step_2/model.pt"), "different runs"),
    (("step_0_500.pt", "step_1_000.pt", "step_2_000.pt"), "two numbers in a row"),
    (("step_1_000.pt", "step_2_000.pt"), "two numbers in a row"),
    (("step_1_000.pt", "step_1_500.pt"), "two numbers in a row"),
    (("step_0,500.pt", "step_1,000.pt"), "two numbers in a row"),
    (("0,500.pt", "1,000.pt"), "several numbers"),
    (("1,000.pt", "2,000.pt"), "two numbers in a row"),
    (("step_1_000_000.pt", "step_2_000_000.pt"), "two numbers in a row"),
    (("step_999.pt", "step_1_000.pt"), "different ways"),
    (("x1/step_1/model.pt", "x2/step_2/model.pt"), "different folders"),
])
def test_names_that_leave_a_choice_are_refused(read, names, words):
    pattern = "*/*/*.pt" if names[0].count("/") == 2 else "*"
    with pytest.raises(InputError, match=words) as refusal:
        read(*names, pattern=pattern)
    assert "step=" in str(refusal.value) or "pattern=" in str(refusal.value)


def test_an_expression_says_which_number_is_the_step(read, tmp_path):
    names = ("m_7_2.pt", "m_3_1.pt")
    assert read(*names, step=r"m_\d+_(\d+)") == {1: 1.0, 2: 0.0}
    assert read(*names, step=r"m_(\d+)_") == {3: 1.0, 7: 0.0}
    for step, words in ((r"m_\d+", "one group"), (r"(\d+", "regular expression"), (r"m_(\d)_2", "no whole number")):
        with pytest.raises(InputError, match=words):
            read(*names, step=step)
    assert read("v1/model.pt", "v2/model.pt", pattern="v*", step=r"v(\d+)") == {1: 0.0, 2: 1.0}
    with pytest.raises(InputError, match="glob"):
        read_checkpoints(tmp_path, "/absolute")


def test_copies_and_companions_are_left_out_and_named(tmp_path):
    for step in (1, 2):
        torch.save({"w": torch.tensor([float(step)])}, tmp_path / f"epoch_{step}.pt")
    for name in ("last.ckpt", "latest.pt", "last-v1.ckpt", "best.pt", "model_best_epoch_1.pt", "final.pt", "model.pt"):
        torch.save({"w": torch.tensor([9.0])}, tmp_path / name)
    optimizer = torch.optim.Adam([torch.zeros(1)]).state_dict()
    for name in ("optimizer.pt", "scheduler.pt", "optimizer_2.pt", "epoch_2_optimizer.pt", "opt000001.pt", "adam.pt"):
        torch.save(optimizer, tmp_path / name)
    for name in ("rng_state.pth", "training_args.bin", "scaler.pt", "._epoch_1.pt"):
        (tmp_path / name).write_bytes(b"not for reading")
    data = read_checkpoints(tmp_path)
    assert data.steps.tolist() == [1, 2] and data.weights[0, :, 0].tolist() == [1, 2]
    assert {"last.ckpt", "best.pt", "adam.pt", "rng_state.pth"} <= set(data.meta["left out"])
    assert len(data.meta["left out"]) == 16


def test_a_numbered_state_is_kept_even_if_it_is_called_last(read):
    assert read("step_100.pt", "step_200.pt", "step_300_last.pt") == {100: 0.0, 200: 1.0, 300: 2.0}


def test_folders_without_weights_and_with_two(tmp_path, read):
    (tmp_path / "logs").mkdir()
    (tmp_path / "run_3").mkdir()
    assert read("checkpoint-1/model.pt", "checkpoint-2/model.pt") == {1: 0.0, 2: 1.0}
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.pt")  # the state at the end
    (tmp_path / "tmp-checkpoint-3").mkdir()
    assert read_checkpoints(tmp_path).steps.tolist() == [1, 2]
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(UnreadableFileError, match="checkpoint-3 holds no weights"):
        read_checkpoints(tmp_path)
    torch.save({"w": torch.zeros(1)}, tmp_path / "checkpoint-3" / "model.pt")
    torch.save({"w": torch.zeros(1)}, tmp_path / "checkpoint-3" / "other.pt")
    with pytest.raises(InputError, match=r"checkpoint-3 holds 2 checkpoints .*pattern='\*/model.pt'"):
        read_checkpoints(tmp_path)
    assert read_checkpoints(tmp_path, "*/model.pt").steps.tolist() == [1, 2, 3]


def test_what_was_seen_is_said(tmp_path):
    (tmp_path / "state.pkl").write_bytes(b"")
    (tmp_path / "step_1.h5").write_bytes(b"")
    with pytest.raises(InputError, match="holds no checkpoint .*state.pkl, step_1.h5"):
        read_checkpoints(tmp_path)


def test_random_names_are_ordered_by_their_steps_or_refused(read):
    rng = np.random.default_rng(0)
    steps = rng.permutation(10_000)[:20]
    assert read(*(f"net_e{rng.integers(9)}_step{s}_loss{rng.random():.3f}.pt" for s in steps)) == {
        int(s): float(i) for i, s in enumerate(steps)}
