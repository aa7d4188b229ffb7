"""What ``gfm run`` and ``gfm build`` tell the kernel of a notebook, and how far that kernel says it is.

This is the one thing that crosses between the two processes beside a notebook's parameters: a :class:`Handover`
as JSON in the environment variable ``GFM_RUN``, written by :mod:`gfm.book.runs.plans` and read by
:class:`gfm.book.Element`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from gfm.store import Progress

__all__ = ["Handover"]

_VARIABLE = "GFM_RUN"


@dataclass(frozen=True)
class Handover:
    """What a notebook's experiments have to heed.

    Attributes:
        only_stored: compute nothing, show what is stored (``gfm run --stored``).
        progress_file: where a running experiment writes how far it is ('' for nowhere).
    """

    only_stored: bool = False
    progress_file: str = ""

    def environment(self) -> dict[str, str]:
        """The variable that hands this over."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def received(cls) -> Handover:
        """What this process was given; the defaults in a notebook that was opened by hand."""
        return cls(**json.loads(os.environ.get(_VARIABLE, "{}")))

    def reporter(self) -> Progress | None:
        """What writes the progress of one experiment into the file; None without one."""
        if not self.progress_file:
            return None
        file, last = Path(self.progress_file), 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > 0.5:
                last = time.monotonic()
                file.write_text(f"{done} {total}\n", encoding="utf-8")

        return progress

    def percent(self) -> str:
        """How far the running experiment is, as `` 42 %``; '' where none has said so."""
        try:
            done, total = map(int, Path(self.progress_file).read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            return ""
        return f" {100 * done // max(total, 1)} %"
