"""Where a result comes from: versions, machine, threads, time, memory, commit."""

import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["commit", "installed", "machine", "most_memory", "now", "threads", "versions"]

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "torchdiffeq", "matplotlib")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that affect the numbers."""
    from gfm import __version__

    return {"python": platform.python_version(), "gfm": __version__, **installed(_PACKAGES)}


def installed(names: Iterable[str]) -> dict[str, str]:
    """Version by name, for those of the named packages that are installed."""
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def machine() -> str:
    """The processor's model name; nothing that identifies a host or a user."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def threads() -> int | None:
    """Number of threads that torch uses, or None if torch has not been loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def most_memory(anew: bool = False) -> int | None:
    """The most memory in MiB that this process has held since it was last counted ``anew``.

    None where the system does not tell (it is read from Linux's ``/proc``).
    """
    try:
        if anew:
            Path("/proc/self/clear_refs").write_text("5")
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None


def now() -> str:
    """The current time in UTC, to the second, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def commit(folder: str = ".") -> str:
    """The short commit hash of the repository that contains ``folder`` ('' if there is none)."""
    command = ["git", "-C", folder, "rev-parse", "--short=10", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
