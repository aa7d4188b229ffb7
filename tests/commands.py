"""The command line, called in the process of a test."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from gfm import cli


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def gfm(project: Path, *arguments: str) -> Ended:
    """The command in this process: one that starts Python anew spends its time on importing torch."""
    out, err = io.StringIO(), io.StringIO()
    plain = {k: v for k, v in os.environ.items() if k not in ("GFM_BUILD", "GFM_STORE")}
    with (mock.patch.object(sys, "argv", ["gfm", *arguments]), mock.patch.dict(os.environ, plain, clear=True),
          contextlib.chdir(project), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())
