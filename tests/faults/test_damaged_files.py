"""Every kind of stored file, cut, flipped, emptied, removed, swapped: found, recomputed or refused, never believed."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from archives import write_cifar, write_idx
from corruption import NAMED, RECOMPUTED, Table, corrupt
from toys import edge_run, tiny_problem

import gfm
from gfm.book import verdicts
from gfm.book.register import Register
from gfm.book.runs import committed, records
from gfm.book.runs.plans import plan
from gfm.central import Run, checkpoint
from gfm.data.cifar10 import read_batch
from gfm.data.mnist import read_idx
from gfm.files import read_sealed
from gfm.forecasters import available, load
from gfm.store import Experiment, Result, Store, key_of, obtain
from gfm.trajectories import Trajectories, resume
from gfm.trajectories.saved import open_saved

NAME = "part/toy.ipynb"
pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def table():
    """Filled by the tests; printed by the last of them."""
    return Table()


@pytest.fixture
def check(table):
    """``check(kind, file, use, ...)``: all damages of a file, none of which may be believed or come through raw."""

    def check(*arguments, **options) -> None:
        before = len(table.wrong)
        corrupt(table, *arguments, **options)
        assert not table.wrong[before:], "\n".join(table.wrong[before:])

    return check


@dataclass(frozen=True)
class Roots(Experiment):
    name: ClassVar[str] = "faults/roots"
    value: float = 2.0

    def compute(self, context) -> Result:
        return Result({"roots": np.sqrt(np.arange(50) + self.value)}, {"label": "roots", "seconds": 0.1})


def test_stored_results(check, tmp_path):
    mine, store = Roots(), Store(tmp_path, ())
    key = key_of(mine)
    obtain(mine, store), obtain(Roots(3.0), store)
    entry, other = store.entry(mine.name, key), store.entry(mine.name, key_of(Roots(3.0)))
    kept = tmp_path / "whole"
    shutil.copytree(entry, kept)

    def anew():
        shutil.copytree(kept, entry, dirs_exist_ok=True)

    def use():
        found = obtain(mine, store)
        if not found.provenance["reused"]:
            assert "cannot be trusted" in found.provenance["why"]
            assert found.arrays["roots"].tobytes() == np.sqrt(np.arange(50) + 2.0).tobytes()
            return RECOMPUTED
        return dict(found.arrays), dict(found.info)

    for file in ("result.json", "arrays.npz"):
        check(f"stored result: {file}", entry / file, use, sibling=other / file, flips=8, again=anew)


@pytest.fixture
def book(ran, project):
    shutil.copytree(ran / "build", project / "build", dirs_exist_ok=True)
    return project


def content(file: Path):
    """A record counts by what it says, everything else byte for byte."""
    return records.read(file.with_name("toy.ipynb")) if file.name == "toy.run.json" else file.read_bytes()


def test_what_a_run_wrote(check, book):
    """The build looks at it before it says "reused"."""
    register = Register.load(book)
    folder = book / "build" / "book"
    files = {"executed notebook": f"run/{NAME}", "figure (SVG)": "figures/toy/toy-line.svg",
             "figure (PNG)": "figures/toy/toy-line.png", "data (JSON)": "data/toy/toy-line.json",
             "data (CSV)": "data/toy/toy-line.csv", "table (CSV)": "data/toy/toy-table.csv",
             "verdicts": "verdicts/toy.json", "record of a run": "run/part/toy.run.json"}
    for kind, name in files.items():
        file = folder / name
        check(f"a build's {kind}", file, lambda file=file: NAMED if plan(register, NAME, "book").why
              else content(file), sibling=book / "build/smoke" / name, flips=8)


def test_verdicts_with_their_values(check, book):
    register = Register.load(book)

    def use():
        stored = verdicts.load(register, register["toy"], "book")
        if stored is None:  # none: "not run" is what every reader of it says then
            return NAMED
        return [(v.claim.id, v.value, v.verdict) for v in stored.verdicts], dict(stored.meta), list(stored.stale)

    file = verdicts.verdict_file(book, "book", "toy")
    check("verdicts", file, use, sibling=book / "build/smoke/verdicts/toy.json", flips=100)


def test_kept_results(check, book):
    register = Register.load(book)
    committed.keep(register, NAME, "book")
    shutil.rmtree(book / "build")
    folder = book / "book" / "results" / "book"
    run = folder / "run" / NAME
    for file in sorted(f for kind in ("run", "figures", "data", "verdicts") for f in (folder / kind).rglob("*.*")):
        check(f"kept {file.relative_to(folder).parts[0]}", file, lambda file=file: NAMED if records.damage(run)
              else content(file), flips=4)
    (entry,) = {f.parent for f in (folder / "store").rglob("result.json")}
    name = entry.parent.relative_to(folder / "store").as_posix()

    def use():
        found, why = Store().find(name, entry.name)
        return (dict(found.arrays), dict(found.info)) if found else NAMED if "cannot be trusted" in why else why

    for file in ("result.json", "arrays.npz"):
        check(f"kept result: {file}", entry / file, use)


def stopped(path: Path, rate: float) -> None:
    def stop(done, _):
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gfm.central.run(tiny_problem(width=2), gfm.optimizers.GradientDescent(lr=rate), 20, checkpoint=path,
                        checkpoint_every=5, progress=stop, processes=["discrete"])


def test_checkpoints_of_a_run(check, tmp_path):
    path, other = tmp_path / "run.checkpoint", tmp_path / "other.checkpoint"
    stopped(path, 0.1), stopped(other, 0.2)
    call = checkpoint.Fingerprint(**torch.load(io.BytesIO(read_sealed(path)), weights_only=True)["fingerprint"])
    check("checkpoint of a run", path, lambda: checkpoint.read(path, call, torch.device("cpu")) or RECOMPUTED,
          sibling=other, flips=60)


def test_checkpoints_of_a_recording(check, tmp_path):
    path, other = tmp_path / "one.checkpoint", tmp_path / "other.checkpoint"
    for mark, file in (("one", path), ("other", other)):
        resume.write(file, mark, {"weights": torch.randn(3, 40), "step": 16})
    check("checkpoint of a recording", path, lambda: resume.read(path, "one") or RECOMPUTED, sibling=other, flips=60)


def runs(seed: int = 0, size: int = 8) -> Trajectories:
    weights = np.random.default_rng(seed).normal(size=(3, 6, size)).cumsum(1)
    return Trajectories(weights, np.arange(6) * 5, meta={"seed": seed})


@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
def test_trajectories(check, tmp_path, mapped):
    """Another file under the same name is another file: only the user knows which was meant, so none is swapped."""
    path = runs(size=200).save(tmp_path / "runs.npz")  # zipfile verifies what it reads at once, some kilobytes

    def use():
        found = Trajectories.load(path, memory_map=mapped)
        return np.array(found.weights), np.array(found.steps), dict(found.meta)

    check(f"trajectories{', mapped' * mapped}", path, use, flips=150)


@pytest.mark.parametrize("name", ["gfm", "linear"])
def test_fitted_models(check, tmp_path, name):
    if name not in available():
        name = "dmd"
    fitted = available()[name](observed=3).fit(runs())
    path, prefix = fitted.save(tmp_path / "model"), runs(1).weights[:, :4]
    seen = Trajectories(prefix, np.arange(4) * 5)
    check(f"fitted model ({name})", path, lambda: load(path).forecast(seen, 2), flips=60)


def test_runs(check, tmp_path):
    path = tmp_path / "run.npz"
    edge_run(150).save(path)
    check("central.Run", path, lambda: Run.load(path).to_arrays(), flips=60)


def test_checkpoints_of_torch(check, tmp_path):
    """Torch looks at no checksum itself, though its files hold them."""
    path = tmp_path / "step_1.pt"
    torch.save({"a.weight": torch.randn(20, 20), "a.bias": torch.randn(20)}, path)
    check("torch file", path, lambda: open_saved(path).tensors, flips=100)


def test_safetensors(check, tmp_path):
    """The format has no checksum: a flipped value is another value, so bits are left alone."""
    from safetensors.torch import save_file

    path = tmp_path / "step_1.safetensors"
    save_file({"a.weight": torch.randn(20, 20), "a.bias": torch.randn(20)}, path)
    check("safetensors file", path, lambda: open_saved(path).tensors, flips=0)


def test_archives_of_images(check, tmp_path):
    path = tmp_path / "images.gz"
    write_idx(path, np.random.default_rng(0).integers(256, size=(20, 28, 28)))
    check("MNIST file", path, lambda: read_idx(path, 3), flips=60)


def test_batches_of_cifar(check, tmp_path):
    """The format has no checksum and any number of rows: bits are left alone, and no cut is between two rows."""
    write_cifar(tmp_path, rows=41)
    path = tmp_path / "data_batch_1.bin"
    check("CIFAR-10 file", path, lambda: read_batch(path), flips=0)


def test_nothing_was_believed_that_is_not_whole(table, capsys):
    """The counts, by kind of file."""
    with capsys.disabled():
        print(f"\n{table}\n{sum(c.total() for c in table.counts.values())} damaged files.")
    assert not table.wrong
