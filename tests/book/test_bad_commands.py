"""Every bad command ends at once with exit code 2, says one thing, and writes nothing."""

from __future__ import annotations

import itertools

import pytest
from commands import gfm

NAMES = [
    "",
    " ",
    "nothing",
    "../outside",
    "/",
    "/etc/passwd",
    "**",
    "*",
    "a\0b",
    "ü" * 300,
    "x" * 5000,
    "part",
    ".",
    "..",
    "part/../toy?",
]
COMMANDS: list[tuple[str, ...]] = [
    *(("run", name) for name in NAMES),
    *(("run", "toy", "--profile", name) for name in ("", "Book", "nothing", "../up")),
    *(("run", "toy", "--device", name) for name in ("", "gpu", "cuda:99", "tpu")),
    *(("run", "toy", "-p", name, "3") for name in ("", "nothing", "profile ", "a b", "__class__", "ü")),
    *(
        ("run", "toy", "-p", "steps", value)
        for value in ("three", "[", "{a: [", "&a [*a]", "!!python/object:os.system", "\0")
    ),
    ("run",),
    ("run", "toy", "-p"),
    ("run", "toy", "--in-place", "--profile", "book"),
    ("run", "toy", "--nothing"),
    *(("build", "--profile", name) for name in ("", "nothing", "../up", "BOOK")),
    *(("build", "--jobs", value) for value in ("0", "-1", "two", "1.5", "nan", "1e9", "")),
    *(("build", "--device", name) for name in ("", "gpu", "cuda:99")),
    ("build", "more"),
    ("build", "--no-run", "--nothing"),
    *(("cells", name, "--profile", "smoke") for name in NAMES if name),
    *(("cells", "--profile", name) for name in ("", "nothing")),
    *(("cells", "--element", name) for name in ("", "nothing", "../up")),
    *(("cell", name, "--profile", "smoke") for name in ("nothing", "..", "/", "zz", "ü", "\0")),
    ("cell",),
    *(("keep", name) for name in NAMES),
    ("keep", "toy", "--profile", "nothing"),
    *(("check", "--profile", name) for name in ("", "nothing")),
    *(("new", name) for name in ("", "Toy", "a b", "../up", "/x", "ü", "a" * 300, "a\0b", "toy")),
    *(("new", "one", "--section", name) for name in ("", "nothing", "../up")),
    *(("cite", name) for name in ("nothing", "../up", "\0")),
    *(("data", name) for name in ("nothing", "../up", "\0", "ü")),
    *(
        ("forecast", *given)
        for given in itertools.product(("", "missing", "\0", "book"), ("", ".", "out.npz"), ("--horizon=3",))
    ),
    *(("forecast", "missing", "out.npz", f"--horizon={value}") for value in ("0", "-1", "three", "1e3", "nan", "")),
    ("forecast",),
    ("forecast", "a"),
    ("publish",),
    ("publish", "\0"),
    ("publish", ""),
    ("publish", "."),
    ("publish", "/"),
    ("pdf", "\0"),
    ("nothing",),
    ("--nothing",),
    ("status", "more"),
]


def _files(folder):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.no_cover
def test_bad_commands_are_refused(project, monkeypatch):
    import nbclient

    monkeypatch.setattr(
        nbclient.NotebookClient, "start_new_kernel_client", lambda *_, **__: pytest.fail("a kernel was started")
    )
    before, wrong = _files(project), []
    for command in COMMANDS:
        shown = " ".join(part[:30] for part in command)
        try:
            done = gfm(project, *command)
        except Exception as error:  # noqa: BLE001 - what comes through is what is looked for
            wrong.append(f"{shown!r}: {type(error).__name__}: {str(error)[:200]}")
            continue
        said = done.stderr.strip()
        if done.returncode != 2 or not said or "Traceback" in said or len(said) > 700:
            wrong.append(f"{shown!r}: exit {done.returncode}: {said[-300:] or done.stdout[-200:]!r}")
        if (after := _files(project)) != before:
            wrong.append(f"{shown!r} wrote {sorted(set(after) ^ set(before))[:3]}")
            before = after
    assert len(COMMANDS) > 100
    assert not wrong, f"{len(wrong)} of {len(COMMANDS)}:\n" + "\n".join(wrong)
