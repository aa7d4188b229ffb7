"""Processes that end with the one that started them: ``python -m gfm.book.orphans PID MODULE ARGUMENTS``."""

import os
import runpy
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["end_with"]


def end_with(parent: int, stop: Callable[[], object]) -> None:
    """Have ``stop`` called, in a thread, when the process that started this one is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        stop()

    if parent > 1:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[1]), lambda: os._exit(1))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
