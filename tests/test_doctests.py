"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import gfm

FOLDER = Path(gfm.__file__).parent
MODULES = sorted(
    ".".join(file.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in FOLDER.rglob("*.py") if ">>> " in file.read_text(encoding="utf-8")
)


def test_there_are_examples():
    assert len(MODULES) >= 8


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    words: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder().find(importlib.import_module(name), name):
        runner.run(example, out=words.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(words)
