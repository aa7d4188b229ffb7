"""Which modules of the package a module needs, and a digest of their code.

A stored result is current as long as the code that computed it is unchanged. Imports are followed in the syntax
tree, so nothing is executed; comments, docstrings and layout do not count.
"""

import ast
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

__all__ = ["closure", "digest", "digest_of_code", "imports_of", "module_digests"]

_PACKAGE = "gfm"
_ROOT = Path(__file__).resolve().parent.parent
# Drawing, the book, the command line, files and the store itself never change a computed number.
_OUTSIDE = re.compile(r"gfm(\.experiments(\.(central|learned))?|\.(store|files|figures|book|cli)(\..*)?)?$")


def closure(modules: Iterable[str], drawing: bool = False) -> tuple[str, ...]:
    """Sorted names of all modules of the package that ``modules`` import, directly or not, and of ``modules``.

    Args:
        modules: Where to start.
        drawing: Also follow imports into figures and the book, on which a notebook's outputs depend.
    """
    seen: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        outside = name == _PACKAGE if drawing else _OUTSIDE.match(name)
        path = _path(name)
        if name in seen or outside or path is None:
            continue
        seen.add(name)
        queue.extend(filter(None, [name.rpartition(".")[0], *_parsed(path, path.stat().st_mtime_ns)[0]]))
    return tuple(sorted(seen))


def digest(modules: Iterable[str]) -> str:
    """SHA-256 digest (hex) of the code of all modules in the closure of ``modules``."""
    text = "\n".join(f"{name} {value}" for name, value in module_digests(modules).items())
    return hashlib.sha256(text.encode()).hexdigest()


def module_digests(modules: Iterable[str], drawing: bool = False) -> dict[str, str]:
    """Module name -> SHA-256 digest of its code, for every module in the closure of ``modules``."""
    paths = {name: _path(name) for name in closure(modules, drawing)}
    return {name: _parsed(path, path.stat().st_mtime_ns)[1] for name, path in paths.items() if path}


def imports_of(code: str) -> set[str]:
    """Modules of the package that a piece of code imports, or uses as ``gfm.name`` or ``alias.name``.

    Relative imports are not followed; ruff refuses them in the package.
    """
    tree = ast.parse(code)
    found: set[str] = set()
    local = {_PACKAGE: _PACKAGE}  # local name -> module that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
            local.update({alias.asname: alias.name for alias in node.names if alias.asname})
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found.add(base)
            for alias in node.names:
                found.add(_member(base, alias.name))
                local[alias.asname or alias.name] = _member(base, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(_chain(node, local))
    return {name for name in found if name == _PACKAGE or name.startswith(_PACKAGE + ".")}


def digest_of_code(code: str) -> str:
    """SHA-256 digest of code, ignoring comments, docstrings and layout."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _chain(node: ast.expr, local: dict[str, str]) -> str:
    """The module named by ``a.b.c`` or by its longest prefix that is one; '' if not in this package."""
    if isinstance(node, ast.Name):
        return local.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = _chain(node.value, local)
        return _member(base, node.attr) if base else ""
    return ""


def _member(base: str, name: str) -> str:
    """The module that provides ``base.name``: a submodule, the module of a lazy name, or ``base`` itself."""
    if base == _PACKAGE:
        from gfm import LAZY

        name = LAZY.get(name, name)
    candidate = f"{base}.{name}"
    return candidate if base.startswith(_PACKAGE) and _path(candidate) else base


def _path(module: str) -> Path | None:
    if module != _PACKAGE and not module.startswith(_PACKAGE + "."):
        return None
    base = _ROOT.joinpath(*module.split(".")[1:])
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


@cache
def _parsed(path: Path, changed: int) -> tuple[frozenset[str], str]:
    """What a module imports, and the digest of its code; ``changed``, its file's mtime in ns, is a cache key."""
    code = path.read_text(encoding="utf-8")
    return frozenset(imports_of(code)), digest_of_code(code)
