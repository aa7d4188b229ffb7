"""The register ``book/elements.yml``: every element, its claims, and each claim's bounds by profile."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from gfm.book.paths import PROFILES, base_profile, project_root
from gfm.checks import number
from gfm.errors import RegisterError, UnknownNameError, said
from gfm.files import parse_yaml
from gfm.measures.intervals import readable

__all__ = ["Bound", "Claim", "ElementEntry", "Register", "readable"]

SECTIONS = {
    "central-flows": "Central flows",
    "gradient-flow-matching": "Gradient flow matching",
    "both": "Both flows on one ground",
}
PAPERS = ("central-flows", "gfm", "ours")
VARIES = {
    "rounding": "what rounding leaves",
    "residual": "what a solver or a step-size control leaves within its tolerance",
    "time": "seconds of the machine",
    "memory": "memory of the machine",
    "iterations": "how often something had to be repeated",
    "chaos": "digits of a path that amplifies rounding",
}
"""Kinds of numbers that no two machines share; a rerun elsewhere need not reproduce them."""
TOLERANCE = 0.02
"""Relative, within which a rerun on another machine must reproduce a claim's value or a number in printed text."""

_ID = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class Bound:
    """``at_most``, ``at_least`` or ``between``: what a measured value must satisfy."""

    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def read(cls, spec: Any, where: str) -> "Bound":
        """Read a bound from the register's mapping.

        Raises:
            RegisterError: The mapping is not a bound.
        """
        if not isinstance(spec, Mapping) or not spec or set(spec) - {"at_most", "at_least", "between"}:
            raise RegisterError(f"{where}: a bound is a mapping of at_most, at_least or between.")
        try:
            low, high = spec.get("between", (-math.inf, math.inf))
            given = [*spec.get("between", ()), *(spec[key] for key in ("at_least", "at_most") if key in spec)]
            for value in given:
                number("A bound's value", value, math.isfinite, "a finite number")
            low = max(float(low), float(spec.get("at_least", -math.inf)))
            high = min(float(high), float(spec.get("at_most", math.inf)))
        except (TypeError, ValueError, OverflowError) as error:
            raise RegisterError(f"{where}: a bound's values must be finite numbers.") from error
        if not low <= high:
            raise RegisterError(f"{where}: nothing lies between {low:g} and {high:g}.")
        return cls(low, high)

    def admits(self, value: float) -> bool:
        """Whether the value satisfies the bound; NaN never does."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == -math.inf:
            return f"at most {readable(self.high, 4)}"
        if self.high == math.inf:
            return f"at least {readable(self.low, 4)}"
        return f"{readable(self.low, 4)} to {readable(self.high, 4)}"


@dataclass(frozen=True)
class Claim:
    """One sentence, the quantity measured to test it, and the bound set in advance."""

    id: str
    sentence: str
    quantity: str
    bound: Bound
    shape: Bound | None = None  # the weaker bound of "holds in shape only"
    paper: str = "unknown"
    profiles: tuple[str, ...] = PROFILES  # where it is judged; elsewhere "not run"
    exceptions: Mapping[str, Bound] = field(default_factory=dict)  # profile -> its own bound
    tolerance: float = TOLERANCE  # relative, within which a rerun on another machine must reproduce the value
    varies: str = ""  # kind of a value that differs between machines; a rerun must reproduce only the verdict
    spread: float = 0.0  # relative difference of the value seen between machines, in profiles above smoke
    unjudged: str = ""  # why the claim is not judged in the profiles that are left out
    history: str = ""  # dated: what was judged, or which bound stood here, before

    def bound_in(self, profile: str) -> Bound:
        """The bound under a profile: the profile's own if it has one, else the claim's."""
        return self.exceptions.get(base_profile(profile), self.bound)


@dataclass(frozen=True)
class ElementEntry:
    """One figure or table of the book."""

    id: str
    title: str
    notebook: str | None  # relative to notebooks/; None = not written yet
    section: str
    paper: str
    items: str
    claims: tuple[Claim, ...]
    cost: Mapping[str, str]
    part: str = ""  # which part of the notebook, where it shows more than one element

    def claim(self, name: str) -> Claim:
        """The claim with this id.

        Raises:
            RegisterError: There is no such claim.
        """
        if (claim := next((c for c in self.claims if c.id == name), None)) is not None:
            return claim
        known = ", ".join(c.id for c in self.claims) or "none"
        raise RegisterError(f"Element {self.id!r} has no claim {name!r} in the register ({known}).")


@dataclass(frozen=True)
class Register:
    """All elements, in the order of the book, and by id."""

    elements: tuple[ElementEntry, ...]
    root: Path

    @classmethod
    def load(cls, root: Path | str | None = None) -> "Register":
        """Read the register of the project at or above ``root``.

        Raises:
            RegisterError: An entry is wrong; the message says which.
        """
        root = project_root(root)
        return cls.read((root / "book" / "elements.yml").read_text(encoding="utf-8"), root)

    @classmethod
    def read(cls, text: str, root: Path) -> "Register":
        """Parse the register of the project at ``root`` from its text.

        Raises:
            RegisterError: An entry is wrong; the message says which.
        """
        return cls(_elements(text), root)

    def __iter__(self) -> Iterator[ElementEntry]:
        return iter(self.elements)

    def __getitem__(self, name: str) -> ElementEntry:
        """The element with this id.

        Raises:
            UnknownNameError: There is none.
        """
        if isinstance(name, str) and (element := next((e for e in self.elements if e.id == name), None)) is not None:
            return element
        raise UnknownNameError(f"The register has no element {name!r}; see book/elements.yml.")

    def shown_in(self, notebook: str) -> list[ElementEntry]:
        """The elements that a notebook shows."""
        return [e for e in self.elements if e.notebook == notebook]

    def notebooks(self) -> list[str]:
        """The notebooks named in the register, each once, in order."""
        return list(dict.fromkeys(e.notebook for e in self.elements if e.notebook))


@lru_cache(maxsize=4)  # listing the cells of all notebooks reads it forty times
def _elements(text: str) -> tuple[ElementEntry, ...]:
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise RegisterError(f"book/elements.yml cannot be read: {said(error)}.") from error
    if not isinstance(data, list):
        raise RegisterError("book/elements.yml must be a list of elements.")
    elements = tuple(_element(item, number) for number, item in enumerate(data, 1))
    _unique([e.id for e in elements], "element")
    return elements


def _element(item: Any, number: int) -> ElementEntry:
    where = f"book/elements.yml, entry {number}"
    if not isinstance(item, Mapping) or "id" not in item:
        raise RegisterError(f"{where}: an element is a mapping with an id.")
    where = f"element {item['id']!r}"
    if not isinstance(item["id"], str) or not _ID.fullmatch(item["id"]):
        raise RegisterError(f"{where}: an id is made of letters, digits and hyphens.")
    known = {"id", "title", "notebook", "section", "source", "claims", "cost", "part"}
    if set(item) - known:
        raise RegisterError(f"{where}: unknown keys {sorted(map(str, set(item) - known))}.")
    missing = {"title", "section", "source"} - set(item)
    if missing:
        raise RegisterError(f"{where}: {', '.join(sorted(missing))} missing.")
    _texts(item, ("title", "section", "notebook", "part"), where)
    if ".." in (item.get("notebook") or "").split("/") or (item.get("notebook") or "").startswith("/"):
        raise RegisterError(f"{where}: notebook must be a path below notebooks/.")
    if not isinstance(item.get("claims") or [], list) or not isinstance(item.get("cost") or {}, Mapping):
        raise RegisterError(f"{where}: claims must be a list, and cost a mapping of profiles to words.")
    if item["section"] not in SECTIONS:
        raise RegisterError(f"{where}: section must be one of {', '.join(SECTIONS)}.")
    source = item["source"]
    if not isinstance(source, Mapping) or source.get("paper") not in tuple(PAPERS):
        raise RegisterError(f"{where}: source.paper must be one of {', '.join(PAPERS)}.")
    claims = tuple(_claim(c, where) for c in item.get("claims") or ())
    _unique([c.id for c in claims], f"claim of {where}")
    cost = {p: str((item.get("cost") or {}).get(p, "unknown")) for p in PROFILES}
    return ElementEntry(item["id"], item["title"], item.get("notebook"), item["section"],
                        source["paper"], str(source.get("items", "")), claims, cost,
                        item.get("part", ""))


def _claim(item: Any, where: str) -> Claim:
    if not isinstance(item, Mapping) or {"id", "sentence", "quantity", "bound"} - set(item):
        raise RegisterError(f"{where}: a claim needs id, sentence, quantity and bound.")
    where = f"{where}, claim {item['id']!r}"
    known = {f.name for f in fields(Claim)} - {"exceptions"}
    if set(item) - known:
        raise RegisterError(f"{where}: unknown keys {sorted(map(str, set(item) - known))}.")
    _texts(item, ("id", "sentence", "quantity", "paper", "varies", "unjudged", "history"), where)
    profiles = item.get("profiles", PROFILES)
    if not isinstance(profiles, (list, tuple)) or not profiles or not all(p in PROFILES for p in profiles):
        raise RegisterError(f"{where}: profiles must be among {', '.join(PROFILES)}.")
    profiles = tuple(profiles)
    if set(profiles) != set(PROFILES) and not item.get("unjudged"):
        raise RegisterError(f"{where}: unjudged must say why the other profiles do not judge it.")
    if item.get("varies", "") not in ("", *VARIES):
        raise RegisterError(f"{where}: varies must be one of {', '.join(VARIES)}.")
    shape = Bound.read(item["shape"], where) if item.get("shape") else None
    bound, exceptions = _bounds(item["bound"], where)
    return Claim(str(item["id"]), item["sentence"], item["quantity"], bound, shape,
                 str(item.get("paper", "unknown")), profiles, exceptions,
                 _tolerance(item.get("tolerance", TOLERANCE), where), item.get("varies", ""),
                 _tolerance(item["spread"], where) if "spread" in item else 0.0, str(item.get("unjudged", "")),
                 str(item.get("history", "")))


def _texts(item: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if item.get(key) is not None and not isinstance(item[key], str):
            raise RegisterError(f"{where}: {key} must be text, but it is {item[key]!r}.")


def _tolerance(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise RegisterError(f"{where}: a tolerance is relative, above 0 and below 1.")
    return float(value)


def _bounds(spec: Any, where: str) -> tuple[Bound, dict[str, Bound]]:
    """A claim's bound, and those of single profiles, as in ``{at_most: 0.05, paper: {at_most: 0.02}}``."""
    if not isinstance(spec, Mapping):
        return Bound.read(spec, where), {}
    own = {p: Bound.read(spec[p], f"{where}, profile {p}") for p in PROFILES if p in spec}
    return Bound.read({k: v for k, v in spec.items() if k not in PROFILES}, where), own


def _unique(names: list[str], what: str) -> None:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise RegisterError(f"book/elements.yml: {what} named twice: {', '.join(twice)}.")
