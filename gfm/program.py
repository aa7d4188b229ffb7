"""The program ``gfm``: what it needs is imported where an interrupt already ends it without a traceback."""

import os
import signal
from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Entry point: :func:`gfm.cli.main`, which handles interrupts itself once it is imported."""
    before = signal.getsignal(signal.SIGINT)
    heard = before is signal.default_int_handler  # a shell may have it ignored
    if heard:
        signal.signal(signal.SIGINT, _nothing_begun)
    from gfm import cli

    if heard:
        signal.signal(signal.SIGINT, before)
    cli.main()


def _nothing_begun(number: int, _: FrameType | None) -> None:
    """End at once: an exception could be caught, or printed, by whatever is being imported."""
    os._exit(128 + number)


if __name__ == "__main__":
    main()
