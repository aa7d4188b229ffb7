"""Lint and types: the settings in ``pyproject.toml`` hold for the project, and catch what breaks them."""

import subprocess
import sys
from pathlib import Path

import pytest

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
