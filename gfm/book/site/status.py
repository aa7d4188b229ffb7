"""The status page: every claim with its value, bound and verdict, from the register and the stored verdicts."""

from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from gfm.book.outputs import markdown_table
from gfm.book.paths import PROFILES
from gfm.book.register import SECTIONS, ElementEntry, Register
from gfm.book.site.origins import computed_day, computed_line
from gfm.book.site.overview import by_page, counts, link, measured, origin, seconds, state_of
from gfm.book.site.pages import badge
from gfm.book.verdicts import FAILS, HOLDS, NOT_JUDGED, NOT_RUN, SHAPE, Stored, Verdict, best, load_whole

__all__ = ["status_page"]

_WORDS = FAILS, SHAPE, HOLDS, NOT_JUDGED, NOT_RUN  # failures first


def status_page(register: Register, staged: set[str]) -> str:
    """The status page: failures, then every claim by element, then the matrix of elements."""
    found, written = counts(register), [e for e in register if e.notebook]
    runs = {e.id: stored for e in written if (stored := best(register, e, load_whole))}
    usual = next((line for line, _ in Counter(_where(s.meta) for s in runs.values()).most_common(1)), "")
    lines = [
        "# Status of every claim", "",
        f"{len(written)} of {len(register.elements)} elements are written. Of their {sum(found.values())} claims "
        f"{found[HOLDS]} hold, {found[SHAPE]} hold in shape only, {found[FAILS]} fail, {found[NOT_JUDGED]} are not "
        f"judged and {found[NOT_RUN]} are not run. [How to read this book](how-to-read.md) says what these words "
        "mean.", "",
        "This page is made when the book is built: values come from the runs, bounds from the register "
        "`book/elements.yml`. A paper's own value is given where it is known to us. The day of an element is that on "
        "which the oldest result that it rests on was computed.", "",
        f"[Computed on {usual}, unless an element says otherwise.]{{.provenance}}" if usual else "", "",
    ]
    for title, word in (("What fails", FAILS), ("What holds in shape only", SHAPE)):
        lines += [f"## {title}", "", by_page(register, staged, word), ""]
    lines += ["## Every claim", "", _filter(found), ""]
    for section, title in SECTIONS.items():
        entries = [e for e in written if e.section == section]
        lines += [f"### {title}", ""] * bool(entries)
        for entry in entries:
            lines += _element(register, entry, runs.get(entry.id), staged, usual)
    missing = [e for e in register if e.notebook is None]
    if missing:
        lines += ["## Not written yet", ""]
        lines += [f"- {e.title} ({SECTIONS[e.section]}: {origin(e)})" for e in missing]
    lines += ["", "## All elements", "", _matrix(register, staged), "", "```{raw} html",
              '<script src="_static/status.js"></script>', "```"]
    return "\n".join(lines) + "\n"


def _filter(found: Mapping[str, int]) -> str:
    """Radio buttons that choose claims; without the page's script they stay hidden, and every claim is visible."""
    buttons = "".join(f'<label><input type="radio" name="verdict" value="{word}"> {word} ({found[word]})</label>\n'
                      for word in _WORDS)
    return ("```{raw} html\n<fieldset class=\"filter\" hidden><legend>Show the claims with the verdict</legend>\n"
            '<label><input type="radio" name="verdict" value="" checked> any</label>\n'
            f"{buttons}</fieldset>\n```")


def _element(register: Register, entry: ElementEntry, stored: Stored | None, staged: set[str], usual: str) -> list[str]:
    """An element's claims, folded away by the page's script."""
    found = Counter(v.verdict for v in stored.verdicts) if stored else Counter({NOT_RUN: len(entry.claims)})
    summary = " · ".join(f"{word}: {found[word]}" for word in _WORDS if found[word]) or state_of(entry, stored)
    lines = [f'<details class="element" open><summary>{escape(entry.title)} <span>{summary}</span></summary>', "",
             f"{link(entry, staged)} · {origin(entry)}", ""]
    if stored is None:
        lines += ["Not run yet.", ""]
    else:
        lines += [_claim(register, entry, stored.profile, verdict) for verdict in stored.verdicts]
        told = [claim for claim in entry.claims if claim.history]
        if told:
            lines += ["", "<details class=\"history\" open><summary>What was judged before</summary>", "",
                      *[f"- {claim.id}: {claim.history}" for claim in told], "", "</details>"]
        lines += ["", computed_line(stored.meta, register.root, usual) + "\\",
                  _provenance(stored.profile, stored.meta, usual), ""]
    return [*lines, "</details>", ""]


def _claim(register: Register, entry: ElementEntry, profile: str, verdict: Verdict) -> str:
    """A claim as a list item: verdict, code and sentence, then the value and its bound."""
    claim = verdict.claim
    paper = f" · the paper: {claim.paper}" if claim.paper != "unknown" else ""
    return (f"- {badge(verdict.verdict)} **{claim.id}** {claim.sentence}\\\n"
            f"  [{measured(verdict)}{paper}{_elsewhere(register, entry, profile, claim.id)}]{{.provenance}}")


def _elsewhere(register: Register, entry: ElementEntry, shown: str, claim: str) -> str:
    """The claim's values under the other profiles that were run."""
    found = []
    for profile in PROFILES[1:]:  # smoke says nothing beside a real run
        stored = load_whole(register, entry, profile) if profile != shown else None
        name = f"{profile}, some cells" if stored and stored.meta.get("partial") else profile
        found += [f" · {name}: {v.shown} ({v.verdict})"
                  for v in (stored.verdicts if stored else ()) if v.claim.id == claim and v.value is not None]
    return "".join(found)


def _where(meta: Mapping[str, Any]) -> str:
    """Machine, threads and versions of a run."""
    versions = ", ".join(f"{name} {number}" for name, number in meta.get("versions", {}).items())
    threads = f"{meta['threads']} thread{'s' * (meta['threads'] != 1)}" if meta.get("threads") else ""
    return " · ".join(p for p in (meta.get("machine", "an unknown processor"), threads, versions) if p)


def _provenance(profile: str, meta: Mapping[str, Any], usual: str) -> str:
    """Profile, run time, commit and time of a run in one line, with the machine if it is not the usual one."""
    where = _where(meta)
    parts = [f"Profile *{profile}*", seconds(meta), where if where != usual else "",
             f"commit {meta['commit']}" if meta.get("commit") else "",
             meta.get("when", "").replace("T", " ").removesuffix("+00:00")]
    return "[" + " · ".join(p for p in parts if p) + "]{.provenance}"


def _matrix(register: Register, staged: set[str]) -> str:
    """The matrix of elements, by section, as Markdown tables."""
    parts = []
    for section, title in SECTIONS.items():
        rows = []
        for entry in (e for e in register if e.section == section):
            stored = best(register, entry, load_whole)
            held = stored.held if stored else 0
            share = f"{held} of {len(entry.claims)}" if entry.claims and entry.notebook else "–"
            rows.append([link(entry, staged), origin(entry), share, badge(state_of(entry, stored)),
                         f"{stored.profile}<br>{computed_day(stored.meta)}" if stored else "–"])
        if rows:
            head = ("Element", "Reproduces", "Claims that hold", "Worst verdict", "Profile, day")
            parts.append(f"**{title}**\n\n{{.matrix}}\n{markdown_table(head, rows)}")
    return "\n\n".join(parts)
