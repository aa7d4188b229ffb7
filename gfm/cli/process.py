"""The process around a command: its arguments, its exit code, signals, and what the terminal and the system lack."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from gfm.cli.commands import BETWEEN, app
from gfm.errors import GfmError, InputError

__all__ = ["join_parameters", "main"]


def join_parameters(arguments: list[str]) -> list[str]:
    """Join ``-p name value`` (or ``-p name=value``) into one argument, because options here take a single word.

    Raises:
        InputError: A ``-p`` has no value.
    """
    out: list[str] = []
    rest = iter(arguments)
    for word in rest:
        out.append(word)
        if word == "-p":
            name = next(rest, "")
            value = name.partition("=")[2] if "=" in name else next(rest, None)
            if not name or value is None:
                raise InputError("-p takes a name and a value, as in `-p lr 0.05`.")
            out.append(name.partition("=")[0] + BETWEEN + value)
    return out


def main() -> None:
    """Entry point; errors become one sentence on stderr and exit code 2, signals their own exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know no more than ASCII
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        with _folder_for_settings():
            app(join_parameters(sys.argv[1:]), standalone_mode=True)
    except GfmError as error:
        print(f"gfm: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"gfm: The system refused: {error.strerror or error}{where}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _folder_for_settings() -> Iterator[None]:
    """Context in which Matplotlib and IPython do not complain, into outputs too, that there is no home folder."""
    if os.access(os.path.expanduser("~"), os.W_OK):
        yield
        return
    with TemporaryDirectory(prefix="gfm-", ignore_cleanup_errors=True) as folder:
        for variable in ("MPLCONFIGDIR", "IPYTHONDIR"):
            os.environ.setdefault(variable, folder)
        yield


def _terminated(number: int, _: object) -> None:
    """Let what is under way be tidied up."""
    sys.exit(128 + number)
