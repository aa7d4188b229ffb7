"""The toy project's commands as programs of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NAME = "part/toy.ipynb"
RUN = ("run", NAME, "--profile", "smoke")
BUILD = ("build", "--profile", "smoke", "--jobs", "1")


def environment(root: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GFM_", "COV_"))}
    return kept | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{root}", "GFM_BUILD": str(root / "build"),
                   "GFM_STORE": str(root / "build" / "store")}


def start(root: Path, *arguments: str, before: Sequence[str] = (), **variables: str | None) -> subprocess.Popen[str]:
    """A command that runs, with variables of the environment (None: not set), and words before it."""
    env = {k: v for k, v in (environment(root) | variables).items() if v is not None}
    return subprocess.Popen([*before, sys.executable, "-m", "gfm.cli", *arguments], cwd=root, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, encoding="utf-8")


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a command said, once it has ended as it should."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out + err
    assert "Traceback" not in out + err and "Warning" not in err, err
    return out + err


def ran(root: Path, *arguments: str, code: int = 0) -> str:
    return ended(start(root, *arguments), code)


def partial(root: Path) -> list[str]:
    ends = (".partial", ".progress", ".failed.ipynb", ".checkpoint")
    return [f.name for f in root.rglob("*") if f.name.endswith(ends)]
