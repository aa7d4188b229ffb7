"""Lint, types and the voice of messages: the settings in ``pyproject.toml`` hold, and catch what breaks them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gfm import errors

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ROOT / "pyproject.toml"


def tool(*words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True)


def test_no_lint():
    done = tool("ruff", "check", ".", "--output-format", "concise")
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_fit():
    done = tool("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("import os\n", "unused-import"),
        (f"x = '{'a' * 120}'\n", "line-too-long"),
        ("def public(x):\n    return x\n", "undocumented-public-function"),
        ("def at(places=[]):\n    '''Places.'''\n    return places\n", "mutable-argument-default"),
    ],
)
def test_lint_is_seen(tmp_path, line, rule):
    bad = tmp_path / "bad.py"
    bad.write_text(f'"""A module."""\n\n{line}', encoding="utf-8")
    done = tool("ruff", "check", "--no-cache", "--config", SETTINGS, "--output-format", "concise", bad)
    assert done.returncode == 1 and rule in done.stdout, done.stdout + done.stderr


def test_a_wrong_type_is_seen(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def half(x: int) -> int:\n    return x / 2\n\n\ndef free():\n    return half('a')\n")
    done = tool("mypy", "--config-file", SETTINGS, "--cache-dir", tmp_path / "cache", bad)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "return-value" in done.stdout and "arg-type" in done.stdout, done.stdout


def kin_of_errors(trees: list[ast.Module]) -> set[str]:
    """Names of the package's exceptions, and of classes derived from them."""
    kin = set(errors.__all__)
    classes = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    while new := {c.name for c in classes if {ast.unparse(base) for base in c.bases} & kin} - kin:
        kin |= new
    return kin


def names_in(tree: ast.Module) -> set[str]:
    """Names of a module's arguments, fields, attributes and functions, with which a message may begin."""
    kinds = {ast.arg: "arg", ast.Attribute: "attr", ast.FunctionDef: "name", ast.keyword: "arg"}
    names = {getattr(n, kinds[type(n)]) for n in ast.walk(tree) if type(n) in kinds}
    names |= {n.target.id for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    return names - {"a", "all", "an", "no", "of", "second", "the", None} | {"torch"}


def parts_of(message: ast.expr) -> list[str]:
    """The text of a literal message, in the places between values; '' stands for a value at either end."""
    if isinstance(message, ast.BinOp):
        return parts_of(message.left) + parts_of(message.right)
    values = message.values if isinstance(message, ast.JoinedStr) else [message]
    return [v.value if isinstance(v, ast.Constant) else "" for v in values]


def unlike_sentences(tree: ast.Module, kin: set[str]) -> list[str]:
    """The literal messages of exceptions in a module that do not begin or do not end as a sentence does."""
    wrong, names = [], names_in(tree)
    for node in ast.walk(tree):
        call = node.exc if isinstance(node, ast.Raise) else None
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) in kin and call.args):
            continue
        message = call.args[0]
        if isinstance(message, (ast.JoinedStr, ast.BinOp)) or isinstance(getattr(message, "value", None), str):
            parts = parts_of(message)
            first = re.match(r"\w*", parts[0])[0]
            code = parts[0][len(first):].startswith(("/", "=", "[", "(", "."))
            begins = code or "_" in first or first in names or not first[:1].islower()
            if not begins or not parts[-1].endswith((".", "?")) or parts[-1].endswith(".."):
                wrong.append(f"line {node.lineno}: {ast.unparse(message)}")
    return wrong


def test_messages_of_exceptions_are_sentences():
    """They begin with a capital letter, or with a name of the code or a value, and end with a period."""
    trees = {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text()) for p in sorted((ROOT / "gfm").rglob("*.py"))}
    kin = kin_of_errors(list(trees.values()))
    wrong = [f"{name}, {message}" for name, tree in trees.items() for message in unlike_sentences(tree, kin)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("message", "right"),
    [
        ("'n must be positive.'", True), ("'The network is unknown.'", True), ("f'{n} is too large.'", True),
        ("'a/file.yml lacks n.'", True), ("f'Is n={n} meant?'", True), ("'the network is unknown.'", False),
        ("'It is unknown'", False), ("f'It is {n}'", False), ("f'It is {n}..'", False), ("'It is' + f' {n}.'", True),
    ],
)
def test_messages_unlike_sentences_are_found(message, right):
    tree = ast.parse(f"def f(n):\n    raise InputError({message})\n")
    assert (unlike_sentences(tree, {"InputError"}) == []) == right
