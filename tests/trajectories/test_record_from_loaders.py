"""Recording from data loaders, whose examples may be random, and going on after an interruption."""

import random

import numpy as np
import pytest
import torch
from test_record_as_practised import X, Y, build, holds, mean_square, one_by_one, options, with_dropout
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from gfm.errors import GfmError, InputError, UnreadableFileError
from gfm.trajectories import record
from gfm.trajectories.batches import FromLoader


def loader(batch=8, shuffle=True, **more):
    return DataLoader(TensorDataset(X, Y), batch_size=batch, shuffle=shuffle, **more)


def test_a_loader_in_order_is_as_in_a_plain_loop():
    data = record(build, loader(shuffle=False), None, mean_square, **options)
    assert data.meta["batch"] == 8
    for run in range(3):
        holds(data, run, one_by_one(run, batches=list(loader(shuffle=False))))
    whole = record(build, loader(22, shuffle=False), None, mean_square, **options)
    assert (whole.weights == record(build, X, Y, mean_square, **options).weights).all()
    ready = DataLoader(list(zip(X.split(8), Y.split(8), strict=True)), batch_size=None)  # examples that are batches
    assert (record(build, ready, None, mean_square, **options).weights == data.weights).all()


def test_each_run_makes_its_own_passes():
    examples = torch.arange(22.0)[:, None]
    batches = FromLoader(DataLoader(TensorDataset(examples, examples), batch_size=8, shuffle=True), 3, seed=0)
    passes = [torch.cat([batches.next()[0][..., 0] for _ in range(3)], dim=1) for _ in range(2)]
    for rows in passes:
        assert (rows.sort(dim=1).values == torch.arange(22)).all()
    assert (passes[0] != passes[1]).any() and (passes[0][0] != passes[0][1]).any()
    other = FromLoader(DataLoader(TensorDataset(examples, examples), batch_size=8, shuffle=True), 3, seed=1)
    assert (other.next()[0] != passes[0][:, :8, None]).any()


class Noisy(Dataset):
    """Transforms that draw from all three global generators, or from one of the data set's own."""

    def __init__(self, own=False):
        self.own = np.random.default_rng(0) if own else None

    def __len__(self):
        return len(X)

    def __getitem__(self, number):
        noise = self.own.normal() if self.own else torch.randn(()) + np.random.normal() + random.gauss(0, 1)
        return X[number] + noise, Y[number]


def test_a_loader_is_reproducible_and_no_generator_is_disturbed():
    own = torch.Generator().manual_seed(7)
    weighted = WeightedRandomSampler(torch.arange(1.0, 23), 22, generator=own)
    for made in (loader(generator=own), loader(shuffle=None, sampler=weighted), DataLoader(Noisy(), 8, shuffle=True),
                 loader(num_workers=2)):
        before = torch.get_rng_state(), own.get_state(), np.random.get_state()[1].copy(), random.getstate()
        one = record(build, made, None, mean_square, **options)
        after = torch.get_rng_state(), own.get_state(), np.random.get_state()[1], random.getstate()
        assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
        assert (before[2] == after[2]).all() and before[3] == after[3]
        torch.rand(3), torch.rand(3, generator=own), np.random.rand(), random.random()
        two = record(build, made, None, mean_square, **options)
        assert (one.weights == two.weights).all()
        other = record(build, made, None, mean_square, **{**options, "seed": 5})
        assert (one.weights != other.weights).any()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


class Uneven:
    """A batch sampler whose batches grow with the first draw: not the same for all runs."""

    def __init__(self, passes):
        self.passes = passes

    def __iter__(self):
        size = int(torch.randint(1, 20, ()))
        return iter([list(range(size))] * (size if self.passes else 3))


def pairs(*values):
    return DataLoader(values, batch_size=None)


@pytest.mark.parametrize(("made", "words"), [
    (DataLoader(Stream(), batch_size=4), "IterableDataset"),
    (DataLoader(TensorDataset(X), batch_size=4), r"pair \(inputs, targets\).*\['Tensor'\]"),
    (DataLoader(TensorDataset(X, X, Y), batch_size=4), "pair"),
    (DataLoader([{"x": x} for x in X], batch_size=4), "this one is dict"),
    (DataLoader([(x, "a") for x in X], batch_size=4), "'tuple'|'list'"),
    (pairs((X, Y[:3])), "same number of examples"),
    (pairs((X[:0], Y[:0])), "at least one"),
    (loader(30, drop_last=True), "at least one batch"),
    (DataLoader(TensorDataset(X, Y), batch_sampler=Uneven(passes=False)), "differ between runs"),
    (DataLoader(TensorDataset(X, Y), batch_sampler=Uneven(passes=True)), "as many for each run"),
    (DataLoader(Noisy(own=True), batch_size=4), "changes when it is drawn again"),
])
def test_loaders_that_cannot_be_used(made, words):
    with pytest.raises(InputError, match=words) as refused:
        record(build, made, None, mean_square, **options)
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(("data", "more", "words"), [
    ((loader(), Y), {}, "its own targets"),
    ((loader(), None), {"batch": 4}, "its own targets and batches"),
    ((X, None), {}, "needs a DataLoader"),
    ((X.numpy(), Y), {}, "inputs must be a tensor"),
    ((X, 1.0), {}, "targets must be a tensor"),
])
def test_data_that_do_not_fit_together(data, more, words):
    with pytest.raises(InputError, match=words):
        record(build, *data, mean_square, **options, **more)


# -- going on after an interruption ------------------------------------------------------------------
class Stopped(Exception):
    pass


def stop(step, steps):
    if step == 40:
        raise Stopped


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_stopped_and_unbroken_are_the_same(name, tmp_path):
    """With running statistics, dropout, a schedule, random transforms, in the middle of a pass."""
    how = {"lr": 0.02, "runs": 2, "steps": 50, "every": 7, "states": True,
           "schedule": lambda method: schedulers.CosineAnnealingLR(method, 50)}
    made, path = DataLoader(Noisy(), batch_size=8, shuffle=True), tmp_path / "recording.pt"
    unbroken = record(with_dropout, made, None, mean_square, name, **how)
    kept = {"checkpoint": path, "checkpoint_every": 16}
    with pytest.raises(Stopped):
        record(with_dropout, made, None, mean_square, name, progress=stop, **kept, **how)
    torch.rand(5), np.random.rand(5), random.random()
    for change in ({"schedule": None}, {"schedule": lambda method: schedulers.CosineAnnealingLR(method, 60)}):
        with pytest.raises(UnreadableFileError, match="another recording"):
            record(with_dropout, made, None, mean_square, name, **kept, **{**how, **change})
    for other in (loader(), DataLoader(Noisy(), batch_size=9, shuffle=True)):
        with pytest.raises(GfmError, match="another recording"):
            record(with_dropout, other, None, mean_square, name, **kept, **how)
    seen = []
    resumed = record(with_dropout, made, None, mean_square, name, progress=lambda *at: seen.append(at), **kept, **how)
    assert seen == [(40, 50)] and not path.exists()
    assert (resumed.weights == unbroken.weights).all() and resumed.meta == unbroken.meta
    for part in ("states", "buffers"):
        found, wanted = getattr(resumed, part), getattr(unbroken, part)
        assert found.keys() == wanted.keys() and all((found[n] == wanted[n]).all() for n in wanted)
    assert resumed.buffers["1.num_batches_tracked"][0].tolist() == list(range(0, 50, 7))
