"""Where an element's numbers come from: when, on which machine and by which source they were computed."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gfm.store import Store, source

__all__ = ["computed_day", "computed_line", "earlier", "results"]


def results(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results on which a run rests (from ``Stored.meta``), each once, as it was first obtained."""
    first = {(r.get("experiment"), r.get("key")): r for r in reversed(meta.get("results", ()))}
    return list(first.values())[::-1]


def earlier(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results of a run that come from an earlier state of the source.

    Either the run says so, or the digest kept with the result differs from that of the present source (known only
    for experiments of this package).
    """

    def changed(result: Mapping[str, Any]) -> bool:
        then, now = result.get("source"), _source_now(str(result.get("experiment")))
        return bool(then and now) and then != now

    return [r for r in results(meta) if "earlier source" in str(r.get("why")) or changed(r)]


def computed_day(meta: Mapping[str, Any]) -> str:
    """The day of the oldest result, or of the run itself if it obtained none."""
    return min(_days(results(meta)) or _days([meta]), default="–")


def computed_line(meta: Mapping[str, Any], root: Path, usual: str = "") -> str:
    """When and on which machine an element was computed, and what was reused or comes from an earlier source.

    Args:
        meta: the metadata of its stored verdicts.
        root: the project's root, where the files of reused results say which torch computed them.
        usual: machine and versions that the reader has been told; they are left out.
    """
    found = results(meta)
    days = _days(found or [meta])
    reused, old = [r for r in found if r.get("reused")], earlier(meta)
    torch = ", ".join(_known(_torch(r, meta, root) for r in found or [meta]))
    parts = [f"Computed from nothing {'' if found else 'in its cells '}{_between(days)}",
             *(part for part in (", ".join(_known(r.get("machine") for r in found or [meta])),
                                 f"torch {torch}" if torch else "") if part not in usual),
             f"{_share(reused, found)} reused, computed {_between(_days(reused))}" if reused else "",
             f"*{_share(old, found)} from an earlier source*" if old else ""]
    return "[" + " · ".join(p for p in parts if p) + "]{.provenance}"


def _share(some: list[Any], found: list[Any]) -> str:
    if len(some) < len(found):
        return f"{len(some)} of {len(found)} results"
    return f"all {len(found)} results" if len(found) > 1 else "the one result"


def _days(parts: list[Mapping[str, Any]]) -> list[str]:
    return _known(str(p.get("when") or "")[:10] for p in parts)


def _between(days: list[str]) -> str:
    if not days:
        return "at an unknown time"
    return f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}"


def _known(values: Any) -> list[str]:
    return sorted({v for v in values if v})


def _torch(part: Mapping[str, Any], meta: Mapping[str, Any], root: Path) -> str:
    """The run's torch version; for a reused result, the one in its own file ('' if that file is missing)."""
    if not part.get("reused"):
        return meta.get("versions", {}).get("torch", "")
    name = f"{part.get('experiment')}/{part.get('key')}/result.json"
    for file in (Store().folder / name, *(root / "book" / "results").glob(f"*/store/{name}")):
        try:
            return json.loads(file.read_text(encoding="utf-8"))["provenance"]["versions"]["torch"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return ""


@cache
def _source_now(experiment: str) -> str:
    """The source digest of a result computed now; '' for an experiment outside this package."""
    module = _homes().get(experiment)
    return source.digest([module]) if module else ""


@cache
def _homes() -> dict[str, str]:
    """Name of each experiment of the package -> the module of its class, found without importing any."""
    package = Path(source.__file__).parents[1]
    texts = {".".join(file.relative_to(package).with_suffix("").parts): file.read_text(encoding="utf-8")
             for file in sorted((package / "experiments").rglob("*.py"))}
    return {name: f"gfm.{module}" for module, text in texts.items()
            for name in re.findall(r'(?m)^    name: ClassVar\[str\] = "(.+)"', text)}
