"""The store trusts nothing that it cannot verify, writes atomically, and two processes may share it."""

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from gfm.errors import InputError, NotStoredError, UnreadableFileError
from gfm.store import Experiment, Result, Store, obtain
from gfm.store.entry import canonical, sha
from gfm.store.store import key_of

calls: list[float] = []


@dataclass(frozen=True)
class Double(Experiment):
    name: ClassVar[str] = "test/double"
    value: float = 2.0
    label: str = "a"
    sizes: tuple[int, ...] = (1, 2)

    def data_fingerprint(self) -> str:
        return "the data" if self.label == "a" else "other data"

    def compute(self, context) -> Result:
        calls.append(self.value)
        context.progress(1, 1)
        return Result({"doubled": np.array([2 * self.value]), "words": np.array(["x", "yz"])},
                      {"seconds": 0.1, "nothing": float("nan"), "count": np.int64(3)})


@pytest.fixture(autouse=True)
def fresh():
    calls.clear()


def entry(store: Path) -> Path:
    (found,) = [p.parent for p in store.rglob("result.json")]
    return found


def test_computed_once_then_reused(tmp_path):
    first, second = obtain(Double(), tmp_path), obtain(Double(), tmp_path)
    assert calls == [2.0]
    assert not first.provenance["reused"] and second.provenance["reused"]
    np.testing.assert_array_equal(second.arrays["doubled"], [4.0])
    assert list(second.arrays["words"]) == ["x", "yz"]
    assert second.info["count"] == 3 and np.isnan(second.info["nothing"])
    assert json.dumps(first.info) == json.dumps(second.info)


def test_provenance_says_where_it_comes_from(tmp_path):
    known = obtain(Double(), tmp_path).provenance
    assert known["parameters"] == {"value": 2.0, "label": "a", "sizes": [1, 2]}
    assert known["data"] == "the data" and known["why"] == "no stored result"
    assert {"versions", "when", "threads", "machine", "seconds", "memory", "source", "key"} <= set(known)


@dataclass(frozen=True)
class Heavy(Experiment):
    name: ClassVar[str] = "test/heavy"
    mebibytes: int = 1

    def compute(self, context):
        return Result({"x": np.ones(2**17 * self.mebibytes)[:1].copy()}, {})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not tell")
def test_the_memory_of_a_computation_is_its_own_and_not_that_of_the_one_before(tmp_path):
    heavy, light = (obtain(Heavy(size), tmp_path, progress=print).provenance["memory"] for size in (400, 1))
    assert heavy > light + 300



@pytest.mark.parametrize("other", [Double(value=3.0), Double(sizes=(1,)), Double(label="b")])
def test_other_parameters_or_data_are_another_result(tmp_path, other):
    assert key_of(other) != key_of(Double())
    obtain(Double(), tmp_path), obtain(other, tmp_path)
    assert len(calls) == 2


def test_the_identity_of_a_result_never_changes():
    """Results that were stored and committed before are found by it; the source's digest follows it."""
    identity, _, source = key_of(Double()).partition("-")
    assert identity == "01d4e2a95b84da5bff29cbb0" and len(source) == 16


def test_its_time_is_that_of_the_computation_to_the_second(tmp_path):
    when = datetime.fromisoformat(obtain(Double(), tmp_path).provenance["when"])
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60 and when.microsecond == 0


def rewritten(e, change, arrays=None):
    """result.json after a change, with a checksum that fits."""
    known = json.loads((e / "result.json").read_text())
    del known["checksum"]
    change(known)
    if arrays is not None:
        known["arrays_sha256"] = sha(arrays)
    known["checksum"] = sha(canonical(known))
    (e / "result.json").write_text(json.dumps(known))


@pytest.mark.parametrize("damage", [
    lambda e: (e / "arrays.npz").write_bytes((e / "arrays.npz").read_bytes()[:40]),
    lambda e: (e / "arrays.npz").unlink(),
    lambda e: np.savez(e / "arrays.npz", doubled=np.array([4.5]), words=np.array(["x", "yz"])),
    lambda e: (e / "result.json").write_text((e / "result.json").read_text()[:80]),
    lambda e: (e / "result.json").write_text("{}"),
    lambda e: (e / "result.json").write_text(
        (e / "result.json").read_text().replace('"count": 3', '"count": 4')),
    lambda e: (e / "result.json").write_text("[]"),
    lambda e: rewritten(e, lambda known: known.pop("key")),
    lambda e: rewritten(e, lambda known: known.pop("provenance")),
    lambda e: rewritten(e, lambda known: (e / "arrays.npz").write_bytes(b"no archive"), b"no archive"),
    lambda e: (e.rename(e.with_name("gone")), e.write_text("a file")),
    lambda e: [p.unlink() for p in e.iterdir()],
], ids=["truncated arrays", "no arrays", "other arrays", "truncated json", "foreign json", "altered value", "a list",
        "no key", "no provenance", "no archive", "a file in its place", "an empty folder"])
def test_damaged_entries_are_noticed_and_recomputed(tmp_path, damage):
    obtain(Double(), tmp_path)
    damage(entry(tmp_path))
    with pytest.raises(UnreadableFileError):
        Store(tmp_path, ()).load("test/double", key_of(Double()))
    again = obtain(Double(), tmp_path)
    assert len(calls) == 2 and "cannot be trusted" in again.provenance["why"]
    assert obtain(Double(), tmp_path).provenance["reused"]


def test_a_store_that_is_a_file_is_refused_before_any_work(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(InputError, match="store cannot be written"):
        obtain(Double(), tmp_path / "store")
    assert not calls


def test_where_only_stored_results_count_unavailable_data_are_not_stored(tmp_path):
    @dataclass(frozen=True)
    class Away(Double):
        name: ClassVar[str] = "test/away"

        def data_fingerprint(self) -> str:
            raise UnreadableFileError("no such archive")

    with pytest.raises(UnreadableFileError):
        obtain(Away(), tmp_path)
    with pytest.raises(NotStoredError, match="no such archive"):
        obtain(Away(), tmp_path, only_stored=True)
    assert not calls


def test_an_entry_under_a_foreign_key_is_not_taken(tmp_path):
    obtain(Double(value=3.0), tmp_path)
    wrong = entry(tmp_path)
    wrong.rename(wrong.with_name(key_of(Double())))
    assert obtain(Double(), tmp_path).arrays["doubled"][0] == 4.0


def test_a_pickle_is_never_loaded(tmp_path):
    """An object array, which NumPy would unpickle, is refused on writing and on reading."""

    @dataclass(frozen=True)
    class Objects(Double):
        name: ClassVar[str] = "test/objects"

        def compute(self, context) -> Result:
            return Result({"o": np.array([{}], dtype=object)})

    with pytest.raises(InputError, match="Python objects"):
        obtain(Objects(), tmp_path)
    assert not list(tmp_path.rglob("result.json")) and not list(tmp_path.rglob("*.partial"))


def test_a_computation_that_breaks_leaves_nothing(tmp_path):
    @dataclass(frozen=True)
    class Breaks(Double):
        name: ClassVar[str] = "test/breaks"

        def compute(self, context) -> Result:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        obtain(Breaks(), tmp_path)
    assert not list(tmp_path.rglob("result.json"))


def test_fields_must_be_plain(tmp_path):
    with pytest.raises(InputError, match="numbers, strings"):
        obtain(Double(value=object()), tmp_path)  # type: ignore[arg-type]


def test_a_committed_result_is_reused_and_an_earlier_source_named(tmp_path):
    obtain(Double(), tmp_path / "committed")
    store = Store(tmp_path / "own", (tmp_path / "committed",))
    assert obtain(Double(), store).provenance["why"] == "committed result"
    old = entry(tmp_path / "committed")
    text = json.loads((old / "result.json").read_text())
    key = text["key"].partition("-")[0] + "-" + "0" * 16
    moved = Store(tmp_path / "older", ())
    loaded = Store(tmp_path / "committed", ()).load("test/double", text["key"])
    moved.save("test/double", key, loaded)
    found = obtain(Double(), Store(tmp_path / "own", (tmp_path / "older",)))
    assert "earlier source" in found.provenance["why"] and calls == [2.0]


SCRIPT = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import numpy as np
from gfm.store import Experiment, Result, obtain

@dataclass(frozen=True)
class Slow(Experiment):
    name: ClassVar[str] = "test/slow"
    def compute(self, context):
        with open(sys.argv[1] + "/calls", "a") as file:
            file.write("x")
        time.sleep(0.5)
        return Result({"x": np.arange(1000)})

print(obtain(Slow(), sys.argv[1]).arrays["x"].sum())
"""


def test_processes_share_a_store_and_compute_once(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT)
    running = [subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE,
                                text=True) for _ in range(3)]
    assert [p.communicate(timeout=60)[0].strip() for p in running] == ["499500"] * 3
    assert (tmp_path / "calls").read_text() == "x"
