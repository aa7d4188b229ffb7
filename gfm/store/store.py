"""The result store: NPZ and JSON under a key, written atomically, verified on reading.

An entry is a folder ``<experiment>/<key>/`` holding ``arrays.npz`` and ``result.json``. The key joins
a digest of (name, parameters, data) with a digest of the source behind the experiment. A file that
is partial, truncated, foreign or altered is recomputed, and the reason is kept.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from gfm.errors import InputError, NotStoredError, UnreadableFileError
from gfm.store import provenance as origin
from gfm.store import source
from gfm.store.entry import canonical, read_entry, sha, write_entry
from gfm.store.experiment import Experiment, Progress, Result, checkpointing

__all__ = ["Store", "obtain", "key_of"]


def key_of(experiment: Experiment) -> str:
    """``identity-source``: digests of (name, parameters, data) and of the code behind it."""
    if not experiment.name:
        raise InputError(f"{type(experiment).__name__} has no name; set the class variable `name`.")
    what = [experiment.name, experiment.parameters(), experiment.data_fingerprint()]
    identity = sha(canonical(what))
    return f"{identity[:24]}-{_source_digest(experiment)[:16]}"


@dataclass(frozen=True)
class Store:
    """A folder of results, and read-only folders (committed results) looked into after it.

    folder: default ``$GFM_STORE``, else ``build/store`` of the project (or of the current folder).
    committed: default ``book/results/*/store`` of the project.
    """

    folder: Path = field(default_factory=lambda: _default_folder())
    committed: tuple[Path, ...] = field(default_factory=lambda: _default_committed())

    def entry(self, name: str, key: str) -> Path:
        """The folder of one entry in the writable layer."""
        return Path(self.folder) / name / key

    def load(self, name: str, key: str) -> Result:
        """Read and verify one entry.

        Raises: UnreadableFileError saying what is wrong with the files.
        """
        return read_entry(self.entry(name, key), name, key)

    def find(self, name: str, key: str) -> tuple[Result | None, str]:
        """The stored result and where it lay, or None and why there is none."""
        why = "no stored result"
        if self.entry(name, key).exists():
            try:
                return self.load(name, key), "stored result, same parameters, data and source"
            except UnreadableFileError as error:
                why = f"the stored result cannot be trusted ({error})"
        identity = key.partition("-")[0]
        for folder in self.committed:
            for entry in sorted((Path(folder) / name).glob(f"{identity}-*")):
                same = entry.name == key
                try:
                    note = "committed result" + ("" if same else " from an earlier source")
                    return read_entry(entry, name, entry.name), note
                except UnreadableFileError as error:
                    why = f"the committed result cannot be trusted ({error})"
        parent = self.entry(name, key).parent
        if why == "no stored result" and any(parent.glob(f"{identity}-*")):
            why = "the source behind the stored result has changed"
        return None, why

    def save(self, name: str, key: str, result: Result) -> Result:
        """Write one entry (a temporary sibling, then renamed) and return it as it will be read."""
        target = self.entry(name, key)
        scratch = _room(target.parent) / f".{key}.{uuid.uuid4().hex[:8]}.partial"
        scratch.mkdir()
        try:
            write_entry(scratch, name, key, result)
            self._put(scratch, target, name, key)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.load(name, key)

    def _put(self, scratch: Path, target: Path, name: str, key: str) -> None:
        try:
            os.replace(scratch, target)
        except OSError:  # a folder is there: another process's good entry, or one not to be trusted
            try:
                self.load(name, key)
            except UnreadableFileError:
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target, ignore_errors=True)
                else:
                    target.unlink(missing_ok=True)
                os.replace(scratch, target)

    def lock(self, name: str, key: str) -> FileLock:
        """A lock between processes for one entry; freed by the system when its holder dies."""
        folder = _room(Path(self.folder) / ".locks")
        return FileLock(str(folder / f"{sha(name + key)[:32]}.lock"))


def obtain(experiment: Experiment, store: Store | Path | str | None = None,
           progress: Progress | None = None) -> Result:
    """The experiment's result: read from the store, or computed and stored.

    Two processes that want the same result compute it once. ``result.provenance`` says whether it
    was reused and why (not), with its key, parameters, versions, seconds, threads and processor.

    Raises: NotStoredError where the environment's ``GFM_ONLY_STORED`` forbids to compute what is not stored;
    there, data that cannot be read count as not stored too. InputError for a store that cannot be written.
    """
    if store is None or not isinstance(store, Store):
        store = Store() if store is None else Store(Path(store), ())
    only_stored = bool(os.environ.get("GFM_ONLY_STORED"))
    try:
        name, key = experiment.name, key_of(experiment)
    except OSError as error:  # the key holds the data's fingerprint
        if not only_stored:
            raise
        raise NotStoredError(
            f"{experiment.name} cannot be looked up, since its data are not here ({error})"
        ) from error
    found, why = store.find(name, key)
    reused = found is not None
    if not reused and only_stored:
        raise NotStoredError(f"{name} has not been run with these parameters ({why}).")
    if not reused:
        with store.lock(name, key):
            found, again = store.find(name, key)
            if found is not None:
                reused, why = True, again
            else:
                with checkpointing(store.entry(name, f".{key}.checkpoint")):
                    found = store.save(name, key, _compute(experiment, key, progress))
    result = Result(found.arrays, found.info, {**found.provenance, "reused": reused, "why": why})
    origin.ledger.append(dict(result.provenance))
    return result


def _compute(experiment: Experiment, key: str, progress: Progress | None) -> Result:
    bar = None
    if progress is None:
        progress, bar = _bar(experiment.name)
    start = time.perf_counter()
    try:
        result = experiment.compute(progress)
    finally:
        if bar is not None:
            bar.close()
    known = {"experiment": experiment.name, "key": key, "parameters": experiment.parameters(),
             "data": experiment.data_fingerprint(), "source": _source_digest(experiment),
             "seconds": round(time.perf_counter() - start, 3), "when": origin.now(),
             "threads": origin.threads(), "machine": origin.machine(),
             "versions": origin.versions()}
    return Result(result.arrays, result.info, known)


def _bar(name: str) -> tuple[Progress, Any]:
    from tqdm import tqdm

    bar = tqdm(desc=name, leave=False, mininterval=0.5)
    file, told = os.environ.get("GFM_PROGRESS"), [0.0]

    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        # A build reads this file to show how far the notebook's process is (see gfm.book.runs.progress).
        if file and time.monotonic() - told[0] > 0.5:
            told[0] = time.monotonic()
            Path(file).write_text(f"{done} {total} {name}\n", encoding="utf-8")

    return progress, bar


def _source_digest(experiment: Experiment) -> str:
    module = type(experiment).__module__
    if module.startswith("gfm."):
        return source.digest([module])
    code = _code_of(type(experiment))
    used = source.digest(source.imports_of(code) or ["gfm.problem", "gfm.trajectories"])
    return sha(source.digest_of_code(code) + used)


def _code_of(kind: type) -> str:
    """A user's own experiment: the module that holds it, or (in a notebook) its methods."""
    try:
        return inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError):
        methods = [m for m in vars(kind).values() if inspect.isfunction(m)]
        parts = [textwrap.dedent(inspect.getsource(m)) for m in methods if m.__name__ == "compute"]
        return "\n".join(parts)


def _room(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"Results cannot be stored in {folder} ({error.strerror}): name a folder that can be written as the store."
        ) from error
    return folder


def _project() -> Path | None:
    here = Path.cwd().resolve()
    return next((f for f in (here, *here.parents) if (f / "book" / "elements.yml").is_file()), None)


def _default_folder() -> Path:
    if os.environ.get("GFM_STORE"):
        return Path(os.environ["GFM_STORE"]).expanduser()
    return (_project() or Path.cwd()) / "build" / "store"


def _default_committed() -> tuple[Path, ...]:
    root = _project()
    return tuple(sorted((root / "book" / "results").glob("*/store"))) if root else ()
