"""Which modules of the package a module rests on, and a digest of their code.

A stored result is current while the code behind it is unchanged. The closure of imports is read
from the syntax tree, so nothing is executed; comments, docstrings and layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

__all__ = ["closure", "digest", "digest_of_code", "imports_of", "module_digests"]

_PACKAGE = "gfm"
_ROOT = Path(__file__).resolve().parent.parent
# Drawing, the register, the command line and the store's own plumbing never change a computed number.
_OUTSIDE = re.compile(
    r"gfm(\.experiments(\.(base|provenance|source|store))?|\.(figures|book|cli)(\..*)?)?$"
)


def closure(modules: Iterable[str]) -> tuple[str, ...]:
    """Names of all modules of the package reached from ``modules`` (themselves included), sorted."""
    seen: set[str] = set()
    queue = [m for m in modules]
    while queue:
        name = queue.pop()
        if name in seen or _path(name) is None or _OUTSIDE.match(name):
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        queue.extend(filter(None, [parent, *_imports_of_module(name)]))
    return tuple(sorted(seen))


def digest(modules: Iterable[str]) -> str:
    """sha256 (hex) over the code of the closure of ``modules``."""
    text = "\n".join(f"{name} {value}" for name, value in module_digests(modules).items())
    return hashlib.sha256(text.encode()).hexdigest()


def module_digests(modules: Iterable[str]) -> dict[str, str]:
    """Module name -> sha256 of its code, for every module in the closure of ``modules``."""
    return {name: _module_digest(name, *_stamp(name)) for name in closure(modules)}


def imports_of(code: str, module: str = "", is_package: bool = False) -> set[str]:
    """Modules of the package that a piece of code imports or uses as ``gfm.name``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _resolve(node, module, is_package)
            found.add(base)
            found.update(_member(base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == _PACKAGE:
                found.add(_member(_PACKAGE, node.attr))
    return {name for name in found if name == _PACKAGE or name.startswith(_PACKAGE + ".")}


def digest_of_code(code: str) -> str:
    """sha256 of code, blind to comments, docstrings and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                if isinstance(body[0].value.value, str):
                    node.body = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _member(base: str, name: str) -> str:
    """The module behind ``base.name``: a submodule, the home of a lazy name, or ``base`` itself."""
    if base == _PACKAGE:
        name = _lazy_names().get(name, name)
    candidate = f"{base}.{name}"
    return candidate if base.startswith(_PACKAGE) and _path(candidate) else base


def _lazy_names() -> dict[str, str]:
    from gfm import _NAMES

    return _NAMES


def _resolve(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".") if is_package else module.split(".")[:-1]
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _path(module: str) -> Path | None:
    if module != _PACKAGE and not module.startswith(_PACKAGE + "."):
        return None
    base = _ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _stamp(module: str) -> tuple[int, int]:
    stat = _path(module).stat()
    return stat.st_mtime_ns, stat.st_size


def _imports_of_module(module: str) -> set[str]:
    return _cached_imports(module, *_stamp(module))


@lru_cache(maxsize=None)
def _cached_imports(module: str, mtime: int, size: int) -> frozenset[str]:
    path = _path(module)
    is_package = path.name == "__init__.py"
    return frozenset(imports_of(path.read_text(encoding="utf-8"), module, is_package))


@lru_cache(maxsize=None)
def _module_digest(module: str, mtime: int, size: int) -> str:
    return digest_of_code(_path(module).read_text(encoding="utf-8"))
