"""The command line, called in the process of a test."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from gfm import cli


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def gfm(project: Path, *arguments: str, **variables: str) -> Ended:
    """The command in this process: one that starts Python anew spends its time on importing torch.

    ``variables`` are set in its environment, which else names no build folder and no store.

    A warning that a user would see is written to ``stderr``, as it would be there.
    """
    out, err = io.StringIO(), io.StringIO()
    plain = {k: v for k, v in os.environ.items() if k not in ("GFM_BUILD", "GFM_STORE")} | variables
    with (mock.patch.object(sys, "argv", ["gfm", *arguments]), mock.patch.dict(os.environ, plain, clear=True),
          contextlib.chdir(project), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
          warnings.catch_warnings(record=True) as seen):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    for one in seen:
        if not issubclass(one.category, (DeprecationWarning, PendingDeprecationWarning, ImportWarning)):
            err.write(warnings.formatwarning(one.message, one.category, one.filename, one.lineno))
    return Ended(code, out.getvalue(), err.getvalue())
