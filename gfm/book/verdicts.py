"""Verdicts: measured values compared with the register's bounds, kept as JSON per element and profile.

Bounds are always read from the register, never from the stored file, so a stored verdict that no longer
agrees with the register is noticed.
"""

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfm.book.paths import PROFILES, base_profile, build_folder
from gfm.book.register import Bound, Claim, ElementEntry, Register, readable
from gfm.errors import UnreadableFileError
from gfm.files import read_json, write_json

__all__ = ["FAILS", "HOLDS", "NOT_JUDGED", "NOT_RUN", "SHAPE", "VERDICTS", "Stored", "Verdict", "best", "damaged",
           "judge", "load", "load_whole", "show_value", "verdict_file", "write"]

HOLDS, SHAPE, FAILS = "holds", "holds in shape only", "fails"
NOT_JUDGED, NOT_RUN = "not judged", "not run"
VERDICTS = SHAPE, HOLDS, FAILS, NOT_JUDGED, NOT_RUN
"""All verdicts; "holds in shape only" stands before "holds", with which it begins."""
_SCHEMA = "gfm-verdicts/1"


@dataclass(frozen=True)
class Verdict:
    """A claim, the value measured for it (None: not measured), the verdict, and the profile's bound."""

    claim: Claim
    value: float | None
    verdict: str
    bound: Bound
    why: str = ""  # why there is no value: the profile does not judge the claim, or the run did not allow it
    close: bool = False  # whether the value is so near a bound that another machine may judge otherwise

    @property
    def shown(self) -> str:
        """The value, rounded for reading, or the register's reason why there is none."""
        if self.why:
            return f"not judged: {self.why}"
        return show_value(self.value, self.bound) + " (another machine may judge otherwise)" * self.close


@dataclass(frozen=True)
class Stored:
    """One verdict file: the verdicts under the register's present bounds, and the values' provenance."""

    profile: str
    verdicts: tuple[Verdict, ...]
    meta: Mapping[str, Any]  # parameters, seconds, versions, commit, when, sources
    stale: tuple[str, ...]  # claims whose stored verdict disagrees with the register
    outdated: tuple[str, ...] = ()  # claims that were defined otherwise then, or not yet

    @property
    def held(self) -> int:
        """The number of claims that hold."""
        return sum(v.verdict == HOLDS for v in self.verdicts)


def judge(claim: Claim, value: float | str | None, profile: str) -> Verdict:
    """The verdict on one value; "not run" if it is None or the claim is not judged in this profile.

    A text in place of the value says why the run does not allow a verdict: "not judged".
    """
    bound = claim.bound_in(profile)
    base = base_profile(profile)
    left_out = base in PROFILES and base not in claim.profiles
    if value is None or left_out:
        why = claim.unjudged if base == profile else f"under the profile {base} this claim is not judged"
        return Verdict(claim, None, NOT_RUN, bound, why if left_out else "")
    if isinstance(value, str):
        return Verdict(claim, None, NOT_JUDGED, bound, value)
    value = float(value)
    shape = claim.shape
    found = HOLDS if bound.admits(value) else SHAPE if shape is not None and shape.admits(value) else FAILS
    ends = [end for b in (bound, shape) if b is not None for end in (b.low, b.high) if math.isfinite(end)]
    close = base != "smoke" and claim.spread > 0 and any(
        abs(value - end) <= claim.spread * max(abs(value), abs(end)) for end in ends)
    return Verdict(claim, value, found, bound, close=close)


def show_value(value: float | None, bound: Bound | None = None) -> str:
    """A value for reading, to three digits; rounding noise far below its bound is not spelt out."""
    if value is None:
        return NOT_RUN
    if bound is not None and bound.low == -math.inf and 0 < bound.high < math.inf:
        if abs(value) < bound.high / 100:
            return f"below {readable(bound.high / 100, 2)}"
    if bound is not None and not bound.admits(value):
        # A value that misses its bound must not round to it.
        ends = {readable(end) for end in (bound.low, bound.high)}
        return next((text for digits in (3, 4, 5, 7) if (text := readable(value, digits)) not in ends), repr(value))
    return readable(value)


def verdict_file(root: Path, profile: str, element: str) -> Path:
    """``build/<profile>/verdicts/<element>.json``."""
    return build_folder(root) / profile / "verdicts" / f"{element}.json"


def write(root: Path, element: ElementEntry, profile: str, verdicts: list[Verdict], meta: Mapping[str, Any]) -> None:
    """Store the values of one element (atomically, with a checksum); NaN and infinities are kept as words."""
    claims = [{"id": v.claim.id, "quantity": v.claim.quantity,
               "value": v.value if v.value is None or math.isfinite(v.value) else str(v.value),
               "bound": str(v.bound), "verdict": v.verdict, **({"why": v.why} if v.verdict == NOT_JUDGED else {})}
              for v in verdicts]
    payload = {"schema": _SCHEMA, "element": element.id, "profile": profile, "claims": claims, **meta}
    write_json(verdict_file(root, profile, element.id), payload)


def load(register: Register, element: ElementEntry, profile: str) -> Stored | None:
    """The stored verdicts of one element and profile, judged by the present register; None if absent.

    The build folder is searched first, then the committed results (``book/results/<profile>/verdicts``).

    Raises:
        UnreadableFileError: The file is not a verdict file of this element.
    """
    places = (verdict_file(register.root, profile, element.id),
              register.root / "book" / "results" / profile / "verdicts" / f"{element.id}.json")
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        return None
    data = read_json(path, "a whole verdict file: run its notebook again", sealed=True)
    try:
        quantities = {c["id"]: c["quantity"] for c in data["claims"]}
        known = (data["schema"], data["element"], data["profile"])
        values = {c["id"]: (c.get("why") or (None if c["value"] is None else float(c["value"])), c["verdict"])
                  for c in data["claims"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableFileError(f"{path.name} is not a verdict file; run its notebook again.") from error
    if known != (_SCHEMA, element.id, profile):
        raise UnreadableFileError(f"{path.name} belongs to another element or profile; run it again.")
    verdicts = tuple(judge(c, values.get(c.id, (None,))[0], profile) for c in element.claims)
    meta = {k: v for k, v in data.items() if k not in ("schema", "element", "profile", "claims")}
    meta["committed"] = path == places[1]
    # A claim added after a result was committed has no value in it; the other verdicts must be unchanged.
    asked = [v for v in verdicts if v.claim.id in values or not meta["committed"]]
    stale = [v.claim.id for v in asked if values.get(v.claim.id, (None, None))[1] != v.verdict]
    stale += sorted(set(values) - {c.id for c in element.claims})
    day = str(meta.get("when", ""))[:10]
    outdated = [c.id for c in element.claims
                if profile in c.profiles and (quantities.get(c.id) != c.quantity or day < _last_change(c))]
    return Stored(profile, verdicts, meta, tuple(stale), tuple(outdated))


def _last_change(claim: Claim) -> str:
    """The last date in a claim's history; empty if it has none."""
    return max(re.findall(r"\d{4}-\d{2}-\d{2}(?=:)", claim.history), default="")


def load_whole(register: Register, element: ElementEntry, profile: str) -> Stored | None:
    """Like :func:`load`, but None if the file is damaged: its claims then count as not run."""
    with suppress(UnreadableFileError):
        return load(register, element, profile)
    return None


def damaged(register: Register) -> list[str]:
    """A sentence on each verdict file that cannot be read."""
    found = []
    for element in register:
        for profile in PROFILES:
            try:
                load(register, element, profile)
            except UnreadableFileError as error:
                found.append(f"the verdicts of {element.id} ({profile}) are left out: {str(error).rstrip('.')}")
    return found


def best(register: Register, element: ElementEntry, read: Callable[..., Stored | None] = load) -> Stored | None:
    """The verdicts of the most complete profile that has been run.

    Runs that are older than what their claims measure now give way to real runs (book and larger) that are not; partial
    runs come last. ``read`` is :func:`load`, or :func:`load_whole`.
    """
    found = [s for profile in reversed(PROFILES) if (s := read(register, element, profile)) is not None]
    whole = [s for s in found if not s.meta.get("partial")]
    recent = [s for s in whole if not s.outdated and s.profile != PROFILES[0]]
    return next(iter(recent or whole or found), None)
