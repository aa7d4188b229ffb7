"""Valid calls and bad values: the register, profiles, notebooks."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from bad_calls import Function
from bad_values import MADE, NAME, but, not_paths
from functions_commands import ROOT

from gfm.book import Register
from gfm.book.register import Bound
from gfm.book.runs.notebooks import Notebook, profile_parameters

TOY = (ROOT / "tests" / "book" / "toy" / "book" / "elements.yml").read_text()


def _without(key: str) -> str:
    return "\n".join(line for line in TOY.splitlines() if not line.strip().lstrip("- ").startswith(f"{key}:"))


def registers(root: Path) -> list[Function]:
    texts = {
        "empty": "",
        "a number": "3",
        "a text": "hello",
        "a mapping": "a: 1",
        "a list of numbers": "[1, 2]",
        "tabs": "\t- a",
        "no YAML": "- id: [",
        "a null": "- null",
        "a tag": "- !!python/object/apply:os.system ['true']",
        "a NUL": "- id: a\0",
        "aliases": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "nested aliases": "- &a [x,x]\n"
        + "".join(f"- &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)),
        "deep": "[" * 3000,
        "itself": "- &a [*a]",
        "twice": TOY + TOY,
        **{f"no {key}": _without(key) for key in ("title", "section", "source", "sentence", "quantity", "bound")},
        **{
            f"{old} is {new}": TOY.replace(old, new)
            for old, new in (
                ("id: toy", "id: 3"),
                ("id: toy", "id: [a]"),
                ("id: toy", "id: ../a"),
                ("id: toy", "id: ''"),
                ("title: A decaying line", "title: 3"),
                ("title: A decaying line", "title: [a]"),
                ("section: both", "section: [a]"),
                ("section: both", "section: all"),
                ("section: both", "part: {a: 1}"),
                ("notebook: part/toy.ipynb", "notebook: 3"),
                ("notebook: part/toy.ipynb", "notebook: ../toy.ipynb"),
                ("notebook: part/toy.ipynb", "notebook: [a]"),
                ("paper: ours", "paper: [a]"),
                ("paper: ours", "paper: mine"),
                ("{at_most: 1.0e-6}", "{at_most: .nan}"),
                ("{at_most: 1.0e-6}", "{at_most: .inf}"),
                ("{at_most: 1.0e-6}", "{at_most: '1'}"),
                ("{at_most: 1.0e-6}", "{at_most: true}"),
                ("{at_most: 1.0e-6}", "{at_most: [1]}"),
                ("{at_most: 1.0e-6}", "{between: [2, 1]}"),
                ("{at_most: 1.0e-6}", "{between: 3}"),
                ("{at_most: 1.0e-6}", "{between: [1, 2, 3]}"),
                ("{at_most: 1.0e-6}", "{between: [1, .nan]}"),
                ("{at_most: 1.0e-6}", "{}"),
                ("{at_most: 1.0e-6}", "3"),
                ("{at_most: 1.0e-6}", "{at_least: .nan}"),
                ("{at_most: 1.0e-6}", "{at_most: null}"),
                ("{at_most: 1.0e-6}", "{most: 3}"),
                ("{at_most: 1.0e-6}", "{at_most: 1, huge: {at_most: 2}}"),
                ("{at_most: 1.0e-6}", "{at_most: 1" + "0" * 400 + "}"),
                ("tolerance: 0.1", "tolerance: '0.1'"),
                ("tolerance: 0.1", "tolerance: .nan"),
                ("tolerance: 0.1", "tolerance: 2"),
                ("tolerance: 0.1", "tolerance: [1]"),
                ("tolerance: 0.1", "unknown: 1"),
                ("tolerance: 0.1", "[a]: 1"),
                ("id: T1", "id: [a]"),
                ("id: T1", "id: T2"),
                ("sentence: It is long.", "sentence: [a]"),
                ("quantity: number of steps", "quantity: 3"),
                ("profiles: [paper]", "profiles: paper"),
                ("profiles: [paper]", "profiles: 3"),
                ("profiles: [paper]", "profiles: [[a]]"),
                ("profiles: [paper]", "profiles: [huge]"),
                ("profiles: [paper]", "profiles: []"),
                ("unjudged: the run is too short", "unjudged: [a]"),
                ("varies: iterations", "varies: [a]"),
                ("varies: iterations", "varies: much"),
                ('cost: {smoke: "1 s"}', "cost: 3"),
                ('cost: {smoke: "1 s"}', "cost: [a]"),
                ("shape: {at_most: 0.5}", "shape: 3"),
                ("shape: {at_most: 0.5}", "shape: [a]"),
                ('paper: "-1.5 (read off a plot, ± 0.1)"', "paper: [a]"),
            )
        },
    }
    notebook = Notebook(root, "toy")
    tables = {
        "a number": "3",
        "a list": "[1]",
        "text": "hello",
        "no YAML": "{",
        "a tab": "\ta: 1",
        "a NUL": "a: \0",
        "entry 3": "part/toy.ipynb: 3",
        "entry list": "part/toy.ipynb: [1]",
        "profile 3": "part/toy.ipynb: {book: 3}",
        "profile list": "part/toy.ipynb: {book: [1]}",
        "a name that is a list": "part/toy.ipynb: {book: {[a]: 3}}",
        "tag": "!!python/object:os.x {}",
        "empty": "",
        "deep": "[" * 3000,
        "no book": "part/toy.ipynb: {paper: {steps: 3}}",
        **{
            f"{name} is {value}": f"part/toy.ipynb: {{book: {{{name}: {value}}}}}"
            for name in ("steps", "tau", "profile", "steep", "shape", "other")
            for value in (
                "'3'",
                ".nan",
                "[a]",
                "{a: 1}",
                "-3" if name == "steps" else "2020-01-01",
                "null",
                "book" if name != "profile" else "paper",
            )
        },
        "aliases": texts["aliases"],
    }
    file = root / "notebooks" / "profiles.yml"

    def profiles(text: str, profile: str = "book") -> Any:
        with _changed(file, text):
            return profile_parameters(root, notebook, profile)

    cells = json.loads((root / "notebooks" / "part" / "toy.ipynb").read_text())

    def varied(change) -> str:
        copy = json.loads(json.dumps(cells))
        change(copy)
        return json.dumps(copy)

    def put(key: str, value: Any, cell: int = 1):
        return lambda book: book["cells"][cell].__setitem__(key, value)

    path = root / "notebooks" / "part" / "toy.ipynb"
    books = {
        "empty": "",
        "a number": "3",
        "null": "null",
        "cut": json.dumps(cells)[:300],
        "no cells": "{}",
        "cells null": '{"cells": null}',
        "cells 3": '{"cells": 3}',
        "cells of 3": '{"cells": [3]}',
        "NUL": "\0",
        "deep": "[" * 100000,
        **{
            f"{key} {value!r}": varied(put(key, value))
            for key in ("source", "metadata", "cell_type")
            for value in (None, 3, [3])
        },
        **{f"tags {value!r}": varied(put("metadata", {"tags": value})) for value in (None, 3)},
        "no parameters": varied(lambda book: book["cells"].pop(1)),
        "code": varied(put("source", "import os")),
        "two values": varied(put("source", "a, b = 1, 2")),
        "no Python": varied(put("source", "a = (")),
        "deep literal": varied(put("source", "a = " + "(" * 5000)),
        "large literal": varied(put("source", "a = 9" + "9" * 9999)),
    }

    def read(text: str) -> Any:
        with _changed(path, text):
            book = Notebook(root, "toy")
            return book.code(), book.defaults

    return [
        Function("Register.read", lambda text: Register.read(text, root), {"text": TOY}, {"text": texts}),
        Function(
            "Register.load",
            Register.load,
            {"root": root},
            {"root": but(not_paths(), "None", "empty text", "a folder") | {"nowhere": "/nowhere"}},
        ),
        Function("Register[]", lambda name: Register.load(root)[name], {"name": "toy"}, {"name": NAME}),
        Function("Bound.read", lambda spec: Bound.read(spec, "a claim"), {"spec": {"at_most": 1}}, {"spec": MADE}),
        Function(
            "profiles.yml", profiles, {"text": "part/toy.ipynb: {book: {steps: 3}}"}, {"text": tables, "profile": NAME}
        ),
        Function("notebook", read, {"text": json.dumps(cells)}, {"text": books}),
        Function("Notebook", lambda name: Notebook(root, name), {"name": "toy"}, {"name": NAME}),
    ]


@contextlib.contextmanager
def _changed(file: Path, text: str):
    """The file holds this text for a while; afterwards it is as it was, time included."""
    before, stat, folder = file.read_bytes(), file.stat(), file.parent.stat()
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        yield
    finally:
        file.write_bytes(before)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        os.utime(file.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))
