"""What ``gfm run`` and ``gfm build`` tell a notebook's kernel, and how the kernel reports its progress.

Besides a notebook's parameters, only a :class:`Handover` is passed between the two processes: as JSON in the
environment variable ``GFM_RUN``, written by :mod:`gfm.book.runs.plans` and read by :class:`gfm.book.Element`.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from gfm.store import Progress

__all__ = ["Handover"]

_VARIABLE = "GFM_RUN"


@dataclass(frozen=True)
class Handover:
    """Instructions to a notebook's experiments.

    Attributes:
        only_stored: compute nothing, show only what is stored (``gfm run --stored``).
        progress_file: the file to which a running experiment writes its progress ('' for none).
    """

    only_stored: bool = False
    progress_file: str = ""

    def environment(self) -> dict[str, str]:
        """The environment variable that carries the instructions."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def received(cls) -> "Handover":
        """The instructions that this process was given; the defaults in a notebook opened by hand."""
        return cls(**json.loads(os.environ.get(_VARIABLE, "{}")))

    def reporter(self) -> Progress | None:
        """A function that writes one experiment's progress to the file; None if there is no file."""
        if not self.progress_file:
            return None
        file, last = Path(self.progress_file), 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > 0.5:
                last = time.monotonic()
                with suppress(OSError):  # a full disk shows when the result is stored
                    file.write_text(f"{done} {total}\n", encoding="utf-8")

        return progress

    def percent(self) -> str:
        """Progress of the running experiment, such as " 42 %"; '' if none has reported."""
        try:
            done, total = map(int, Path(self.progress_file).read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            return ""
        return f" {100 * done // max(total, 1)} %"
