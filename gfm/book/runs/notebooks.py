"""Notebooks as files: their parameters, their profiles, and values from the command line."""

import ast
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gfm.book.paths import PROFILES
from gfm.checks import known, place
from gfm.errors import InputError, UnknownNameError, UnreadableFileError
from gfm.files import parse_yaml, read_json, read_yaml

__all__ = ["NoSuchProfile", "Notebook", "profile_parameters"]


class NoSuchProfile(UnknownNameError):
    """A notebook that has no entry for a profile in ``notebooks/profiles.yml``."""


class Notebook:
    """A notebook of the project: its path, its cells, and its parameters' defaults.

    Raises:
        UnreadableFileError: The file is missing or is not a notebook, or its cell tagged ``parameters`` is missing
            or contains more than plain assignments.
    """

    def __init__(self, root: Path, name: str | Path) -> None:
        self.path, self.name = _find(root, name)
        try:
            self.cells = read_json(self.path, "a notebook")["cells"]
            for cell in self.cells:
                source_of(cell)
                if cell["cell_type"] not in ("code", "markdown", "raw") or not isinstance(cell.get("metadata"), dict):
                    raise ValueError("a cell of another kind")
                if not isinstance(cell["metadata"].get("tags", []), list):
                    raise ValueError("tags that are no list")
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableFileError(f"{self.name} is not a notebook.") from error
        self.defaults = self._parameters()

    @property
    def stem(self) -> str:
        """The file's name without folder and suffix."""
        return self.path.stem

    def code(self) -> str:
        """All code cells as one piece of Python; without magics, and without cells that are none (a run says so)."""
        parts = []
        for cell in (c for c in self.cells if c["cell_type"] == "code"):
            lines = source_of(cell).splitlines()
            text = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
            with suppress(SyntaxError, ValueError):
                ast.parse(text)
                parts.append(text)
        return "\n".join(parts)

    def convert(self, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Values from a command line, converted to the types of the parameters' defaults.

        Raises:
            UnknownNameError: The notebook lacks a parameter, or a value is not the name of a data set, network, ...
            InputError: A value has the wrong type or is a number that no run can have.
        """
        out = {}
        for name, text in given:
            if name == "profile":
                raise InputError("The profile is chosen with --profile, not with -p.")
            if name not in self.defaults:
                known = ", ".join(k for k in self.defaults if k != "profile")
                raise UnknownNameError(f"{self.name} has no parameter {name!r}; it has {known}.")
            if not text.isascii() and text.encode(errors="replace").decode() != text:  # halves of a letter
                raise InputError(f"Parameter {name!r}: the terminal's encoding does not know {text!r}; choose UTF-8.")
            out[name] = _typed(name, text, self.defaults[name])
            if out[name] == [] and self.defaults[name] and name not in _MAY_BE_EMPTY:
                raise InputError(f"Parameter {name!r} needs at least one entry (default {self.defaults[name]!r}).")
            _check_value(name, out[name])
        return out

    def _parameters(self) -> dict[str, Any]:
        for cell in self.cells:
            if "parameters" in cell.get("metadata", {}).get("tags", ()):
                return _literals(source_of(cell), self.name)
        raise UnreadableFileError(f"{self.name} has no cell tagged `parameters`.")


def profile_parameters(root: Path, notebook: Notebook, profile: str) -> dict[str, Any]:
    """The parameters that a profile changes (``notebooks/profiles.yml``), including ``profile`` itself.

    For smoke there are none: it is the notebook's defaults.

    Raises:
        UnknownNameError: The profile is unknown, or the notebook lacks it or a parameter that it names.
        InputError: A value has the wrong type.
    """
    known("profile", profile, PROFILES)
    if profile == "smoke":
        return {}
    file = root / "notebooks" / "profiles.yml"
    table = (read_yaml(file) if file.is_file() else None) or {}
    entry = _mapping(_mapping(table, "").get(notebook.name), notebook.name).get(profile)
    if entry is None:
        raise NoSuchProfile(f"{notebook.name} has no profile {profile!r} in notebooks/profiles.yml.")
    for name, value in _mapping(entry, f"{notebook.name}, {profile}").items():
        if name == "profile":
            raise InputError(f"notebooks/profiles.yml: {notebook.name}, {profile} may not set the profile itself.")
        if name not in notebook.defaults:
            raise UnknownNameError(f"notebooks/profiles.yml gives {notebook.name} a parameter {name!r} that it lacks.")
        _check_type(name, value, notebook.defaults[name])
        _check_value(name, value, zeros=True)
    return {"profile": profile, **entry}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise UnreadableFileError(f"notebooks/profiles.yml{': ' * bool(where)}{where} must map names to what stands "
                                  f"below them, but it is {value!r}.")
    return value or {}


def source_of(cell: Mapping[str, Any]) -> str:
    """A cell's text."""
    return joined(cell["source"])


def joined(text: str | list[str]) -> str:
    """A text of a notebook's file, stored as one string or as lines."""
    return text if isinstance(text, str) else "".join(text)


def _find(root: Path, name: str | Path) -> tuple[Path, str]:
    if not isinstance(name, (str, Path)) or not str(name).strip():
        raise UnreadableFileError(f"There is no notebook {name!r}; `gfm status` lists them.")
    place("The notebook", f"{name}.ipynb")
    folder = (root / "notebooks").resolve()
    for candidate in (Path.cwd() / name, folder / name, folder / f"{name}.ipynb"):
        if candidate.is_file():
            path = candidate.resolve()
            if not path.is_relative_to(folder):
                raise UnreadableFileError(f"{name} does not lie in the project's folder notebooks/.")
            return path, path.relative_to(folder).as_posix()
    matches = sorted(file for file in folder.rglob("*.ipynb") if file.stem == Path(name).stem)
    if len(matches) == 1 and "/" not in str(name):
        return matches[0], matches[0].relative_to(folder).as_posix()
    raise UnreadableFileError(f"There is no notebook {str(name)!r}; `gfm status` lists them.")


def _literals(code: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        for node in ast.parse(code).body:
            if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
                raise ValueError("no assignment")
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if not isinstance(target, ast.Name):
                raise ValueError("no plain name")
            found[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, TypeError) as error:
        raise UnreadableFileError(f"{where}: the parameters cell may hold only `name = plain value` lines.") from error
    return found


def _typed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        value: Any
        if isinstance(default, bool):
            value = {"true": True, "false": False}[text.lower()]
        elif isinstance(default, int):
            value = int(text)
        elif isinstance(default, float):
            value = float(text)
        else:
            value = parse_yaml(text)
    except (ValueError, KeyError) as error:
        raise InputError(_wrong(name, text, default)) from error
    _check_type(name, value, default, text)
    return value


def _check_type(name: str, value: Any, default: Any, text: Any = None) -> None:
    shown = value if text is None else text
    if default is None or value is None and isinstance(default, str):
        return
    if isinstance(default, float):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    elif isinstance(default, (list, tuple)):
        good = isinstance(value, (list, tuple))
        try:
            for item in value if good and default else ():
                _check_type(name, item, default[0])
        except InputError:
            good = False
    else:
        good = type(value) is type(default)
    if not good:
        raise InputError(_wrong(name, shown, default))


def _wrong(name: str, value: Any, default: Any) -> str:
    return f"Parameter {name!r} must be {_kind(default)} (default {default!r}), not {value!r}."


def _kind(default: Any, several: bool = False) -> str:
    """The kind of the default in words, in the singular or (``several``) in the plural."""
    if isinstance(default, (list, tuple)):
        return ("lists" if several else "a list") + (f" of {_kind(default[0], True)}" if default else "")
    kinds = {bool: ("true or false",) * 2, int: ("a whole number", "whole numbers"),
             float: ("a finite number", "finite numbers"), str: ("text", "texts")}
    return kinds.get(type(default), (type(default).__name__,) * 2)[several]


#: Parameters with the same meaning in every notebook: positive numbers, and names.
_POSITIVE = {"lr", "other_lr", "lrs", "rates", "steps", "other_steps", "substeps", "n", "classes", "runs"}
_NAMED = {"data", "net", "loss", "optimizer", "dtype", "activation"}
#: Lists that may be empty: without ``hidden`` the widths are those of the size, without ``activations`` no such runs.
_MAY_BE_EMPTY = {"hidden", "activations"}


def _check_value(name: str, value: Any, zeros: bool = False) -> None:
    """Refuse, before a kernel starts, a number or a name that no run can have.

    With ``zeros``, as in a profile, a list may contain zeros: each stands for a value that the notebook finds.
    """
    values = value if (several := isinstance(value, (list, tuple))) else [value]
    low = [v for v in values if isinstance(v, (int, float)) and (v < 0 or v == 0 and not (several and zeros))]
    if name in _POSITIVE and low:
        raise InputError(f"Parameter {name!r} must be above zero, not {value!r}.")
    if any(isinstance(v, int) and v < 0 for v in values):
        raise InputError(f"Parameter {name!r} counts something and cannot be negative, but it is {value!r}.")
    texts = [v for v in values if isinstance(v, str)]
    if name in _NAMED and texts:
        known = _names(name)
        wrong = next((v for v in texts if v not in known), None)
        if wrong is not None:
            raise UnknownNameError(f"Parameter {name!r} is one of {', '.join(known)}, not {wrong!r}.")


def _names(name: str) -> list[str]:
    if name == "dtype":
        return ["float32", "float64"]
    from gfm import data, nets, optimizers
    from gfm.nets.activations import ACTIVATIONS
    from gfm.problem import losses  # torch is loaded only where it is needed

    return {"data": list(data.available()), "net": list(nets.available()), "loss": losses.available(),
            "optimizer": list(optimizers.available()), "activation": ["", *ACTIVATIONS]}[name]
