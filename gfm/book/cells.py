"""What a profile needs: the experiments that its notebooks ask for, found by reading the notebooks themselves.

A notebook is read statement by statement. Each result is replaced by a placeholder; statements that need its numbers
are skipped, and every experiment that is asked for is noted. So the needs of an element are declared in one place, its
notebook, and reading it computes nothing.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from gfm.book.element import Element
from gfm.book.register import Register
from gfm.book.runs.notebooks import NoSuchProfile, Notebook, profile_parameters, source_of
from gfm.errors import InputError, UnknownNameError, said
from gfm.store import Experiment, Store, key_of

__all__ = ["Cell", "asked", "cell", "cells"]


@dataclass(frozen=True)
class Cell:
    """An experiment that a notebook asks for under a profile.

    Attributes:
        notebook: its path below ``notebooks/``.
        experiment: what is computed.
        key: under which the result is stored; '' if the data are not here, since the key depends on them.
        missing: why the key is not known.
    """

    notebook: str
    experiment: Experiment
    key: str
    missing: str = ""

    @property
    def parameters(self) -> dict[str, Any]:
        """The experiment's parameters; none if one of them depends on another cell's result."""
        return {} if _unknown(self.experiment) else self.experiment.parameters()

    @property
    def result(self) -> Path:
        """The file that holds the result once the cell has been computed here."""
        return Store().entry(self.experiment.name, self.key) / "result.json"

    @cached_property
    def stored(self) -> tuple[bool, str, float | None, int | None]:
        """Whether there is a result, where it was found or why there is none, its seconds, and MiB of memory.

        The result itself is not kept: those of a whole profile together are large.
        """
        if not self.key:
            return False, self.missing, None, None
        result, why = Store().find(self.experiment.name, self.key)
        cost = result.provenance if result else {}
        return result is not None, why, cost.get("seconds"), cost.get("memory")


def cells(register: Register, profile: str, notebooks: Iterable[str] = ()) -> list[Cell]:
    """The experiments that these notebooks (by default all that have the profile) ask for, each once.

    Raises:
        UnknownNameError: The profile is unknown, or a notebook that was named has no such profile.
        InputError: A notebook cannot be read without its results.
    """
    named = list(notebooks)
    found: dict[Any, Cell] = {}
    for name in named or sorted({e.notebook for e in register.elements if e.notebook}):
        notebook = Notebook(register.root, name)
        try:
            parameters = profile_parameters(register.root, notebook, profile)
        except NoSuchProfile:
            if named:
                raise
            continue
        for experiment in asked(notebook, parameters):
            try:
                missing = "it depends on another cell's result" if _unknown(experiment) else ""
                # A copy keeps none of the data that were read for the key: a profile has a thousand cells.
                kept = experiment if missing else replace(experiment)
                made = Cell(notebook.name, kept, "" if missing else key_of(replace(experiment)), missing)
            except OSError as error:  # the data cannot be read
                made = Cell(notebook.name, experiment, "", str(error))
            found.setdefault((experiment.name, made.key or repr(experiment)), made)
    return list(found.values())


def cell(register: Register, key: str, profile: str, notebooks: Iterable[str] = ()) -> Cell:
    """The cell whose key is ``key``, or begins with it.

    Raises:
        UnknownNameError: No cell of the profile, or more than one, has such a key.
    """
    found = [c for c in cells(register, profile, notebooks) if c.key.startswith(key)] if key else []
    if len(found) != 1:
        raise UnknownNameError(f"{len(found) or 'No'} cells of the profile {profile!r} have a key that begins with "
                               f"{key!r}; `gfm cells --profile {profile}` lists them.")
    return found[0]


def asked(notebook: Notebook, parameters: Mapping[str, Any]) -> list[Experiment]:
    """The experiments that the notebook asks for with these parameters, in order.

    Raises:
        InputError: A statement fails before any result is asked for.
    """
    found: list[Experiment] = []
    if "obtain" not in notebook.code():
        return found

    class Reader(Element):
        def obtain(self, experiment: Experiment) -> Any:
            found.append(experiment)
            return _Unknown()

        judge = say = say_notes = show = table = _shows_nothing

    module = ModuleType("notebook")  # the module of the classes that a notebook defines
    names = vars(module)
    with _known(module), chdir(notebook.path.parent), redirect_stdout(StringIO()), \
            mock.patch("gfm.book.Element", Reader):
        for part in notebook.cells:
            if part["cell_type"] == "code":
                _read(source_of(part), names, notebook.name, found)
                if "parameters" in part.get("metadata", {}).get("tags", ()):
                    names.update(parameters)
    return found


@contextmanager
def _known(module: ModuleType) -> Iterator[None]:
    """Context in which Python knows the module by its name; what is imported meanwhile stays imported."""
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before


def _shows_nothing(*arguments: Any, **options: Any) -> Any:
    pass


class _Unknown:
    """A placeholder for a result, and for anything taken from it; it has no values."""

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name) if name.startswith("__") else _Unknown()

    def __getitem__(self, _: Any) -> Any:
        return _Unknown()

    def __call__(self, *_: Any, **options: Any) -> Any:
        return _Unknown()

    def __bool__(self) -> bool:
        raise InputError("This needs a result.")

    __iter__ = __len__ = __bool__


def _unknown(value: Any) -> bool:
    """Whether the value is, or contains, a placeholder."""
    if is_dataclass(value):
        value = [getattr(value, f.name) for f in fields(value)]
    return any(map(_unknown, value)) if isinstance(value, (list, tuple)) else isinstance(value, _Unknown)


def _read(code: str, names: dict[str, Any], where: str, found: Sequence[Experiment]) -> None:
    """Run the statements of a cell one by one; variables that depend on a result become placeholders."""
    for node in ast.parse(code).body:
        try:
            exec(compile(ast.Module([node], []), where, "exec"), names)
        except Exception as error:
            if not found:  # no result has been asked for yet, so none can be missing
                raise InputError(f"{where} cannot be read: {type(error).__name__}: {said(error)}.") from error
            for target in ast.walk(node):
                if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store):
                    names[target.id] = _Unknown()
