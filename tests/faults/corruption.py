"""Damage done to files, and a judgement of what became of it: one corruptor for every kind of stored file."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gfm.errors import GfmError

NAMED, RECOMPUTED, REFUSED, UNAFFECTED = "found and named", "recomputed", "refused", "unaffected"
SILENT, RAW = "silent and wrong", "raw traceback"
JUDGEMENTS = (NAMED, RECOMPUTED, REFUSED, UNAFFECTED, SILENT, RAW)


def damages(data: bytes, sibling: bytes | None, flips: int, seed: int) -> Iterator[tuple[str, bytes | None]]:
    """What a file may become: name, content (None: removed). ``sibling``: another file of its kind."""
    last = max(len(data) - 1, 0)
    for place in sorted({1, last, *(last * share // 20 for share in range(1, 20))} - {0}):
        yield f"cut at byte {place} of {len(data)}", data[:place]
    chosen = random.Random(seed)
    for _ in range(flips):
        place, bit = chosen.randrange(len(data)), chosen.randrange(8)
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(changed)
    yield "emptied", b""
    yield "removed", None
    if sibling is not None and sibling != data:
        yield "swapped with another", sibling


class Table:
    """Counts by kind, and the cases that must not be."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.wrong: list[str] = []

    def add(self, kind: str, what: str, judgement: str, told: str = "") -> None:
        self.counts.setdefault(kind, Counter())[judgement] += 1
        if judgement in (SILENT, RAW):
            self.wrong.append(f"{kind}, {what}: {judgement} {told}".rstrip())

    def __str__(self) -> str:
        lines = [["kind", "tried", *JUDGEMENTS]]
        lines += [[kind, str(found.total()), *(str(found[j]) for j in JUDGEMENTS)]
                  for kind, found in self.counts.items()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def corrupt(table: Table, kind: str, file: Path, use: Callable[[], Any], *, sibling: Path | None = None,
            flips: int = 20, seed: int = 0, again: Callable[[], None] = lambda: None) -> None:
    """Damage a file in every way, use it each time, and count what became of it.

    Args:
        table: where it is counted.
        kind: of file.
        file: is whole again afterwards.
        use: reads it. It returns what was read, or :data:`NAMED` or :data:`RECOMPUTED`.
        sibling: another file of the kind.
        flips: how many single bits are flipped.
        seed: of their places.
        again: called before each case (a computation may have mended the file or removed it).
    """
    whole, other = file.read_bytes(), None if sibling is None else sibling.read_bytes()
    right = use()
    assert not isinstance(right, str), f"{kind}: what is whole is not taken for whole"
    for what, content in damages(whole, other, flips, seed):
        again()
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        judgement, told = judged(use, right)
        table.add(kind, what, judgement, told)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(whole)


def judged(use: Callable[[], Any], right: Any) -> tuple[str, str]:
    try:
        found = use()
    except GfmError as error:
        told = str(error)
        return (REFUSED if told.strip() and "\n" not in told and len(told) < 600 else RAW), repr(told)
    except Exception as error:
        return RAW, f"({type(error).__name__}: {error})"
    if isinstance(found, str) and found in (NAMED, RECOMPUTED):
        return found, ""
    return (UNAFFECTED if same(found, right) else SILENT), ""


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))
