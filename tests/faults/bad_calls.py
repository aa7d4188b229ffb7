"""Bad calls made from valid ones, one argument at a time, and what becomes of each.

A :class:`Function` has a valid call, which is tried first, and bad values for its arguments. A bad call must be refused
by one clear sentence of the package, quickly, without large memory, and leave files alone.
"""

import contextlib
import os
import re
import resource
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfm.errors import GfmError

VERDICTS = ("refused", "unclear", "raw", "silent", "written", "slow", "large")
SECONDS, MEGABYTES = 1.0, 100  # of processor time: other programs may keep this one waiting
LONGEST = 500  # characters of a message
HANG = 8  # seconds after which a call is interrupted


@dataclass(frozen=True)
class Function:
    """A public function.

    Attributes:
        name: of the function.
        call: takes ``valid`` by name; a fresh object is made in it where calls change one.
        valid: the arguments of a call that succeeds.
        bad: argument -> {description: value}. What is bad together stands under "several", each a mapping of arguments.
        fine: "argument: description" -> why this value is valid after all, or not the package's to refuse.
    """

    name: str
    call: Callable[..., Any]
    valid: dict[str, Any] = field(default_factory=dict)
    bad: dict[str, dict[str, Any]] = field(default_factory=dict)
    fine: dict[str, str] = field(default_factory=dict)

    def cases(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Description and arguments of each bad call."""
        for argument, values in self.bad.items():
            for word, value in values.items():
                if f"{argument}: {word}" not in self.fine:
                    given = value if argument == "several" else {argument: value}
                    yield f"{argument}: {word}", {**self.valid, **given}


@dataclass(frozen=True)
class Outcome:
    function: str
    case: str
    verdict: str
    words: str

    def __str__(self) -> str:
        return f"{self.function}({self.case}): {self.verdict}: {self.words}"


class Hung(BaseException):
    """Raised in a call that takes too long; no ``except Exception`` catches it."""


def _stop(*_: Any) -> None:
    raise Hung


def unclear(message: str) -> str:
    """What is wrong with a message, or nothing."""
    if len(message.strip()) < 15:
        return "too short"
    if "\n" in message.strip():
        return "several lines"
    if len(message) > LONGEST:
        return f"{len(message)} characters"
    if found := re.search(r"Traceback|object at 0x|\[Errno", message):
        return f"says {found[0]!r}"
    return ""


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file and folder below ``folder``."""
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path in folder.rglob("*") for stat in [path.lstat()]}


def _peak() -> float:
    """Megabytes: the most memory since it was last set back, where the system can (Linux), else ever."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A call cannot hang, nor take the machine's memory: 3 GB more than now, where limits can be set."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, HANG, 1)
    try:
        with contextlib.suppress(OSError, ValueError, IndexError):
            now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (now + 3 * 2**30, before[1]))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def judged(function: Function, case: str, arguments: dict[str, Any], folder: Path) -> Outcome:
    """Make one bad call and say what became of it; ``folder`` is where files could be written."""
    before = listing(folder)
    _reset_peak()
    low, start = _peak(), time.process_time()
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = function.call(**arguments)
        verdict, words = "silent", f"{result!r:.80}"
    except GfmError as error:
        wrong = unclear(str(error))
        verdict, words = ("unclear", f"{wrong}: {str(error)[:200]!r}") if wrong else ("refused", str(error))
    except Hung:
        verdict, words = "slow", f"stopped after {HANG} s"
    except (Exception, SystemExit) as error:
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        at = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else ""
        verdict, words = "raw", f"{type(error).__name__} at {at}: {str(error)[:150]!r}"
    took, grown = time.process_time() - start, _peak() - low
    if verdict in ("refused", "unclear") and took > SECONDS:
        verdict, words = "slow", f"{took:.1f} s: {words}"
    if verdict in ("refused", "unclear") and grown > MEGABYTES:
        verdict, words = "large", f"{grown:.0f} MB: {words}"
    after = listing(folder)
    if changed := {path for path in before | after if before.get(path) != after.get(path)}:
        if verdict != "silent":
            verdict, words = "written", f"{sorted(changed)[:3]}: {words}"
    return Outcome(function.name, case, verdict, words)


def table(outcomes: Counter[tuple[str, str]]) -> str:
    """Counts of the verdicts by function, from those of (function, verdict)."""
    functions = list(dict.fromkeys(function for function, _ in outcomes))
    width = max(map(len, [*functions, "together"]))
    rows = [f"{'function':{width}} {'calls':>6} " + " ".join(f"{verdict:>8}" for verdict in VERDICTS)]
    for function in [*functions, None]:
        those = [
            sum(n for (name, given), n in outcomes.items() if function in (None, name) and given == verdict)
            for verdict in VERDICTS
        ]
        name = "together" if function is None else function
        rows.append(f"{name:{width}} {sum(those):6} " + " ".join(f"{n:8}" for n in those))
    return "\n".join(rows)
