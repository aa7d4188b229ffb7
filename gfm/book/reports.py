"""What ``gfm cells``, ``gfm check`` and ``gfm status`` print."""

import json
import sys
from collections.abc import Sequence

from gfm.book.cells import cells as needed
from gfm.book.costs import estimates, makespan
from gfm.book.paths import PROFILES
from gfm.book.register import SECTIONS, Register
from gfm.book.site.origins import earlier, results
from gfm.book.site.overview import state_of
from gfm.book.verdicts import FAILS, NOT_JUDGED, NOT_RUN, SHAPE, Stored, best, load
from gfm.checks import known
from gfm.errors import UnreadableFileError

__all__ = ["cells", "check", "print_verdicts", "status", "table"]


def cells(register: Register, profile: str, notebooks: Sequence[str] = (), as_json: bool = False) -> None:
    """Print the cells of a profile: key, experiment, notebook, seconds (``~``: expected), memory, where it is."""
    found = needed(register, profile, notebooks)
    costs = estimates(found)
    if as_json:
        print(json.dumps([
            {"key": c.key, "experiment": c.experiment.name, "parameters": c.parameters,
             "notebook": c.notebook, "result": str(c.result) if c.key else "",
             **dict(zip(("stored", "why", "seconds", "memory"), c.stored, strict=True)), "estimate": cost}
            for c, cost in zip(found, costs, strict=True)], indent=1))
        return
    rows = []
    for c, cost in zip(found, costs, strict=True):
        seconds = "–" if cost is None else f"{'' if c.stored[0] else '~'}{cost:.0f}"
        why = c.stored[1] if c.key or not c.parameters else "its data are not here"
        memory = "–" if c.stored[3] is None else str(c.stored[3])
        rows.append([c.key[:12] or "–", c.experiment.name, c.notebook, seconds, memory, why])
    if rows:
        print(table(["key", "experiment", "notebook", "seconds", "MiB", "result"], rows))
    left = [cost for c, cost in zip(found, costs, strict=True) if not c.stored[0]]
    print(f"{len(found)} cell{'s' * (len(found) != 1)}, {len(found) - len(left)} stored.")
    if known_costs := [cost for cost in left if cost is not None]:
        spans = ", ".join(f"{_span(makespan(known_costs, m))} on {m}" for m in (1, 8, 64))
        unknown = len(left) - len(known_costs)
        print(f"Expected for what is missing: {spans} machines like those that measured"
              + (f"; {unknown} more without an estimate." if unknown else "."))


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def check(profile: str | None) -> None:
    """Print which claims fall short or were not run; exit with code 1 if any falls short, is stale or unreadable."""
    if profile is not None:
        known("profile", profile, PROFILES)
    register = Register.load()
    short, stale, absent, broken, aged = [], [], [], [], []
    held = missing = rests = old = 0
    for entry in register:
        try:
            stored = load(register, entry, profile) if profile else best(register, entry)
        except UnreadableFileError as error:
            broken.append(f"{entry.id} ({str(error).rstrip('.')})")
            continue
        if stored is None:
            absent += [entry.id] * bool(entry.notebook and entry.claims)
            missing += len(entry.claims)
            continue
        held += stored.held
        short += [(entry.id, stored.profile, v) for v in stored.verdicts if v.verdict in (FAILS, SHAPE, NOT_JUDGED)]
        left = [f"{entry.id} {v.claim.id}" for v in stored.verdicts if v.verdict == NOT_RUN]
        absent, missing = absent + left, missing + len(left)
        stale += [f"{entry.id} {name}" for name in stored.stale]
        of, then = len(results(stored.meta)), len(earlier(stored.meta))
        rests, old = rests + of, old + then
        aged += [f"{entry.id} ({then} of {of}, {stored.profile})"] * bool(then)
    print(f"{held} claims hold; {len(short)} fall short; {missing} have not been run.")
    if rests:
        print(f"{old} of {rests} stored results come from an earlier state of the source.")
    if short:
        print("\n" + table(["element", "claim", "profile", "value", "bound", "verdict"], [
            [name, v.claim.id, p, v.shown, str(v.bound), v.verdict] for name, p, v in short]))
    for words, names in (("Not run", absent),
                         ("The register has changed since these were judged; run them again", stale),
                         ("From an earlier state of the source", aged), ("Cannot be read", broken)):
        if names:
            print(f"\n{words}: {', '.join(names)}")
    if short or stale or broken:
        sys.exit(1)


def status() -> None:
    """Print the matrix of elements."""
    register = Register.load()
    rows = []
    for section, title in SECTIONS.items():
        rows.append([title.upper(), "", "", "", ""])
        for entry in (e for e in register if e.section == section):
            try:
                stored = best(register, entry)
            except UnreadableFileError:
                rows.append([entry.id, entry.notebook or "–", "–", "–", "unreadable verdicts: run it again"])
                continue
            rows.append([entry.id, entry.notebook or "–", stored.profile if stored else "–",
                         f"{stored.held if stored else 0}/{len(entry.claims)}", state_of(entry, stored)])
    print(table(["element", "notebook", "profile", "hold", "state"], rows))


def print_verdicts(stored: Stored | None) -> None:
    """Print the verdicts of one element, if it has any."""
    if stored and stored.verdicts:
        print(table(["claim", "value", "bound", "verdict", "sentence"], [
            [v.claim.id, v.shown, str(v.bound), v.verdict, v.claim.sentence]
            for v in stored.verdicts]))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A plain-text table with aligned columns."""
    lines = [head, ["-" * len(h) for h in head], *rows]
    widths = [max(len(str(line[i])) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
