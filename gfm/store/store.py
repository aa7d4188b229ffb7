"""The result store: NPZ and JSON files under a key, written atomically and verified on reading.

An entry is a folder ``<experiment>/<key>/`` that holds ``arrays.npz`` and ``result.json``. The key joins
a digest of (name, parameters, data) with a digest of the experiment's source. An entry whose files are
incomplete, altered or belong elsewhere is not used: its result is computed again, and the reason is recorded.
"""

import inspect
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from gfm.checks import instance, named_folder, place
from gfm.errors import InputError, NotStoredError, UnreadableFileError, said
from gfm.files import locked, replacing, sha
from gfm.store import provenance as origin
from gfm.store import source
from gfm.store.entry import canonical, read_entry, write_entry
from gfm.store.experiment import Context, Experiment, Progress, Result

__all__ = ["Store", "key_of", "obtain", "project"]


def key_of(experiment: Experiment) -> str:
    """``identity-source``: digests of (name, parameters, data) and of the code that computes the result.

    Raises:
        InputError: The experiment has no name.
    """
    if not experiment.name:
        raise InputError(f"{type(experiment).__name__} has no name; set the class variable `name`.")
    what = [experiment.name, experiment.parameters(), experiment.data_fingerprint()]
    identity = sha(canonical(what))
    return f"{identity[:24]}-{_source_digest(experiment)[:16]}"


@dataclass(frozen=True)
class Store:
    """A writable folder of results, and read-only folders (committed results) that are searched after it.

    Attributes:
        folder: by default ``$GFM_STORE``, else ``build/store`` in the project (or in the current folder).
        committed: by default ``book/results/*/store`` in the project.
    """

    folder: Path = field(default_factory=lambda: _default_folder())
    committed: tuple[Path, ...] = field(default_factory=lambda: _default_committed())

    def entry(self, name: str, key: str) -> Path:
        """The path of one entry in the writable folder.

        Raises:
            InputError: The path would lie outside the folder.
        """
        if not all(isinstance(part, str) and part and ".." not in part and not os.path.isabs(part)
                   for part in (name, key)):
            raise InputError(f"No result can be stored as {name!r} {key!r}: that leads out of the store's folder.")
        return Path(self.folder) / name / key

    def load(self, name: str, key: str) -> Result:
        """Read and verify one entry.

        Raises:
            UnreadableFileError: A file is missing, incomplete, altered or of another entry; the message says which.
        """
        entry = self.entry(instance("name", name, str, "text"), instance("key", key, str, "text"))
        return read_entry(place("The entry", entry), name, key)

    def find(self, name: str, key: str) -> tuple[Result | None, str]:
        """The stored result and where it was found, or None and the reason why there is none."""
        why = "no stored result"
        if self.entry(name, key).exists():
            try:
                return self.load(name, key), "stored result, same parameters, data and source"
            except UnreadableFileError as error:
                why = f"the stored result cannot be trusted ({said(error)})"
        identity = key.partition("-")[0]
        for folder in self.committed:
            for entry in sorted((Path(folder) / name).glob(f"{identity}-*")):
                try:
                    note = "committed result" + ("" if entry.name == key else " from an earlier source")
                    return read_entry(entry, name, entry.name), note
                except UnreadableFileError as error:
                    why = f"the committed result cannot be trusted ({said(error)})"
        parent = self.entry(name, key).parent
        if why == "no stored result" and any(parent.glob(f"{identity}-*")):
            why = "the source of the stored result has changed"
        return None, why

    def save(self, name: str, key: str, result: Result) -> Result:
        """Write one entry atomically, unless a valid one exists; return it as read back from disk."""
        target = self.entry(name, key)
        try:
            return self.load(name, key)
        except UnreadableFileError:
            pass
        with replacing(target) as scratch:
            scratch.mkdir()
            write_entry(scratch, name, key, result)
            if target.is_dir() and not target.is_symlink():  # a broken entry
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
        return self.load(name, key)

    def lock(self, name: str, key: str) -> AbstractContextManager[None]:
        """A lock on one entry across processes; the system releases it if its holder dies."""
        folder = Path(self.folder)
        return locked(folder / ".locks" / f"{sha(name + key)[:32]}.lock", folder)


def obtain(experiment: Experiment, store: Store | Path | str | None = None,
           progress: Progress | None = None, only_stored: bool = False) -> Result:
    """The experiment's result: read from the store, or computed and stored.

    If two processes ask for the same result, it is computed only once.

    Args:
        experiment: What to compute.
        store: Where results are kept; a path means a store in that folder, without committed results.
        progress: Called during a computation; by default a progress bar is drawn.
        only_stored: Compute nothing.

    Returns:
        The result. Its ``provenance`` says whether it was reused and why (or why not), with its key,
        parameters, versions, seconds, memory (MiB, the most that the process held), threads and processor.

    Raises:
        NotStoredError: ``only_stored`` is set, and there is no stored result, or the data on which its key
            depends cannot be read.
        InputError: The store cannot be written to.
    """
    if not isinstance(store, Store):
        store = Store() if store is None else Store(place("store", store), ())
    instance("experiment", experiment, Experiment, "an Experiment")
    try:
        name, key = experiment.name, key_of(experiment)
    except OSError as error:  # the key includes the data's fingerprint
        if not only_stored:
            raise
        why = f"its data are not here ({said(error)})"
        raise NotStoredError(f"{experiment.name} cannot be looked up, since {why}.") from error
    found, why = store.find(name, key)
    reused = True
    if found is None and only_stored:
        raise NotStoredError(f"{name} has not been run with these parameters ({why}).")
    if found is None:
        with store.lock(name, key):
            found, again = store.find(name, key)
            if found is not None:
                why = again
            else:
                reused = False
                checkpoint = store.entry(name, f".{key}.checkpoint")
                with nullcontext(progress) if progress else _bar(name) as report:
                    made = _compute(experiment, key, Context(report, checkpoint))
                found = store.save(name, key, made)
    return Result(found.arrays, found.info, {**found.provenance, "reused": reused, "why": why})


def _compute(experiment: Experiment, key: str, context: Context) -> Result:
    start = time.perf_counter()
    origin.most_memory(anew=True)
    result = experiment.compute(context)
    known = {"experiment": experiment.name, "key": key, "parameters": experiment.parameters(),
             "data": experiment.data_fingerprint(), "source": _source_digest(experiment),
             "seconds": round(time.perf_counter() - start, 3), "when": origin.now(),
             "memory": origin.most_memory(), "threads": origin.threads(), "machine": origin.machine(),
             "device": ", ".join(sorted(context.devices)) or "cpu", "versions": origin.versions()}
    return Result(result.arrays, result.info, known)


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(desc=name, leave=False, mininterval=0.5) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _source_digest(experiment: Experiment) -> str:
    module = type(experiment).__module__
    if module.startswith("gfm."):
        return source.digest([module])
    code = _code_of(type(experiment))
    used = source.digest(source.imports_of(code) or ["gfm.problem", "gfm.trajectories"])
    return sha(source.digest_of_code(code) + used)


def _code_of(kind: type) -> str:
    """Source of a user's own experiment: its whole module, or (in a notebook) its method ``compute``."""
    try:
        return inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError):
        methods = [m for m in vars(kind).values() if inspect.isfunction(m)]
        parts = [textwrap.dedent(inspect.getsource(m)) for m in methods if m.__name__ == "compute"]
        return "\n".join(parts)


def project(start: Path | None = None) -> Path | None:
    """The project's folder, at or above ``start`` (by default the current folder); None if there is none."""
    here = (start or Path.cwd()).resolve()
    return next((f for f in (here, *here.parents) if (f / "book" / "elements.yml").is_file()), None)


def _default_folder() -> Path:
    return named_folder("GFM_STORE") or (project() or Path.cwd()) / "build" / "store"


def _default_committed() -> tuple[Path, ...]:
    root = project()
    return tuple(sorted((root / "book" / "results").glob("*/store"))) if root else ()
