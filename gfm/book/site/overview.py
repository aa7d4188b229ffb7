"""What the book says about itself, generated from the register and the stored verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gfm.book.outputs import cell, markdown_table
from gfm.book.paths import PROFILES
from gfm.book.register import SECTIONS, Claim, ElementEntry, Register
from gfm.book.site.origins import computed_day, computed_line
from gfm.book.site.pages import badge
from gfm.book.verdicts import FAILS, HOLDS, NOT_JUDGED, NOT_RUN, SHAPE, Stored, Verdict, best, load

__all__ = ["counts", "matrix_page", "numbers", "state_of", "status_page", "table_of_contents"]

WRITTEN_NOT = "not written yet"


def state_of(entry: ElementEntry, stored: Stored | None) -> str:
    """The state of an element in a word: the worst verdict among the claims that were judged."""
    if entry.notebook is None:
        return WRITTEN_NOT
    if stored is None:
        return NOT_RUN
    found = {v.verdict for v in stored.verdicts}
    if not entry.claims:
        return "shown"
    return next((v for v in (FAILS, SHAPE, HOLDS, NOT_JUDGED) if v in found), NOT_RUN)


def counts(register: Register) -> Counter[str]:
    """How many claims of written elements have each verdict (best profile of each element)."""
    found: Counter[str] = Counter()
    for entry in register:
        stored = best(register, entry)
        if entry.notebook is None:
            continue
        if stored is None:
            found[NOT_RUN] += len(entry.claims)
        else:
            found.update(v.verdict for v in stored.verdicts)
    return found


def numbers(register: Register, staged: set[str], picture: str = "") -> dict[str, str]:
    """Texts for the placeholders ``{{ name }}`` of the prose pages (``picture``: the front page's).

    Besides counts: ``value:<element>:<claim>`` is a claim's measured value, ``verdict:<element>:<claim>`` its
    verdict, ``finding:<element>:<claim>`` both in one line, ``profile:<element>`` the profile shown, and
    ``link:<element>`` a link to the element's page (its title if there is no page).
    """
    found = counts(register)
    written = [e for e in register if e.notebook]
    out = {"elements": str(len(register.elements)), "written": str(len(written)),
           "claims": str(sum(found.values())), "holds": str(found[HOLDS]),
           "shape": str(found[SHAPE]), "fails": str(found[FAILS]), "not_run": str(found[NOT_RUN]),
           "not_judged": str(found[NOT_JUDGED]),
           "matrix": matrix_page(register, staged), "picture": picture}
    for entry in register:
        stored = best(register, entry)
        out[f"link:{entry.id}"] = _link(entry, staged)
        out[f"profile:{entry.id}"] = stored.profile if stored else NOT_RUN
        for claim in entry.claims:
            verdict = next((v for v in stored.verdicts if v.claim.id == claim.id), None) if stored else None
            out[f"finding:{entry.id}:{claim.id}"] = _finding(entry, claim, verdict, staged)
            out[f"value:{entry.id}:{claim.id}"] = verdict.shown if verdict else NOT_RUN
            out[f"verdict:{entry.id}:{claim.id}"] = verdict.verdict if verdict else NOT_RUN
    return out


def matrix_page(register: Register, staged: set[str]) -> str:
    """The matrix of elements, by section, as Markdown tables."""
    parts = []
    for section, title in SECTIONS.items():
        entries = [e for e in register if e.section == section]
        if not entries:
            continue
        rows = []
        for entry in entries:
            stored = best(register, entry)
            held = stored.held if stored else 0
            share = f"{held} of {len(entry.claims)}" if entry.claims and entry.notebook else "–"
            rows.append([_link(entry, staged), _origin(entry), share, badge(state_of(entry, stored)),
                         f"{stored.profile}<br>{computed_day(stored.meta)}" if stored else "–"])
        head = ("Element", "Reproduces", "Claims that hold", "State", "Profile, day")
        parts.append(f"### {title}\n\n{{.matrix}}\n{markdown_table(head, rows)}")
    return "\n\n".join(parts)


def status_page(register: Register, staged: set[str]) -> str:
    """The status page: every claim with value, bound, the paper's value, verdict, and provenance."""
    found = counts(register)
    written = sum(e.notebook is not None for e in register)
    lines = [
        "# Status of every element", "",
        "This page is generated when the book is built: values come from the runs of the notebooks, bounds "
        "from the register `book/elements.yml`, verdicts from holding one against the other. A claim that "
        "fails is shown. Where the paper's own value is not known to us, it says *unknown*. The day of an "
        "element is that on which the oldest result that it rests on was computed.", "",
        f"Of {len(register.elements)} elements {written} are written. Of their {sum(found.values())} claims "
        f"{found[HOLDS]} hold, {found[SHAPE]} hold in shape only, {found[FAILS]} fail, "
        f"{found[NOT_JUDGED]} cannot be judged by their runs and {found[NOT_RUN]} have not been run.", "",
        "## All elements", "", matrix_page(register, staged), "", "## Claims", "",
    ]
    for entry in register:
        if entry.notebook is None:
            continue
        stored = best(register, entry)
        lines += [f"### {entry.title}", "", f"{_link(entry, staged)} · {_origin(entry)}", ""]
        if stored is None:
            lines += ["Not run yet.", ""]
            continue
        if stored.verdicts:
            rows = [[v.claim.id, f"{cell(v.claim.sentence)} *({cell(v.claim.quantity)})*",
                     v.shown + _elsewhere(register, entry, stored.profile, v.claim.id), str(v.bound),
                     cell(v.claim.paper), badge(v.verdict)] for v in stored.verdicts]
            head = ("Claim", "", "Our value", "Bound", "Paper's value", "Verdict")
            lines += ["{.verdicts}", markdown_table(head, rows), ""]
            told = [claim for claim in entry.claims if claim.history]
            if told:
                lines += ["What was judged before:", "", *[f"- {claim.id}: {claim.history}" for claim in told], ""]
        lines += [computed_line(stored.meta, register.root) + "\\", provenance_line(stored.profile, stored.meta), ""]
    missing = [e for e in register if e.notebook is None]
    if missing:
        lines += ["## Not written yet", ""]
        lines += [f"- {e.title} ({SECTIONS[e.section]}: {_origin(e)})" for e in missing]
    return "\n".join(lines) + "\n"


def _finding(entry: ElementEntry, claim: Claim, verdict: Verdict | None, staged: set[str]) -> str:
    value = f"{verdict.shown} (bound: {verdict.bound})" if verdict and verdict.value is not None else ""
    return (f"{claim.sentence} {badge(verdict.verdict if verdict else NOT_RUN)} "
            f"[{claim.quantity}{': ' if value else ''}{value} · {_link(entry, staged)}]{{.provenance}}")


def _elsewhere(register: Register, entry: ElementEntry, shown: str, claim: str) -> str:
    """The claim's values under the other profiles that were run."""
    found = []
    for profile in PROFILES[1:]:  # smoke says nothing beside a real run
        stored = load(register, entry, profile) if profile != shown else None
        name = f"{profile}, some cells" if stored and stored.meta.get("partial") else profile
        found += [f"[{name}: {v.shown} ({v.verdict})]{{.provenance}}"
                  for v in (stored.verdicts if stored else ()) if v.claim.id == claim and v.value is not None]
    return "".join(f" {text}" for text in found)


def run_line(profile: str, meta: Mapping[str, Any]) -> str:
    """Profile, run time, day and commit of a run, for its page."""
    return (f"Profile *{profile}* · {_seconds(meta)} · {meta.get('when', '')[:10]} "
            f"· commit {meta.get('commit') or 'unknown'}")


def provenance_line(profile: str, meta: Mapping[str, Any]) -> str:
    """Profile, run time, machine, threads, versions, commit and time of a run, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in meta.get("versions", {}).items())
    parts = [f"Profile *{profile}*", _seconds(meta),
             f"on {meta.get('machine', 'an unknown processor')}",
             f"{meta['threads']} thread{'s' * (meta['threads'] != 1)}" if meta.get("threads") else "",
             versions, f"commit {meta['commit']}" if meta.get("commit") else "",
             meta.get("when", "").replace("T", " ").removesuffix("+00:00")]
    return "[" + " · ".join(p for p in parts if p) + "]{.provenance}"


def table_of_contents(register: Register, staged: set[str], pages: set[str]) -> dict[str, Any]:
    """The book's contents for Sphinx: an opening page for each part, then its notebooks."""
    parts = []
    for section, title in SECTIONS.items():
        notebooks = dict.fromkeys(e.notebook for e in register if e.section == section and e.notebook in staged)
        chapters = [section] * (section in pages) + [f"notebooks/{n}" for n in notebooks]
        if chapters:
            parts.append({"caption": title, "chapters": [{"file": c} for c in chapters]})
    package = sorted(p for p in pages if p == "api" or p.startswith("api-"))
    if package:
        parts.append({"caption": "The package", "chapters": [{"file": p} for p in package]})
    names = ("status", "benchmarks", "how-to-run", "at-scale", "how-to-cite", "downloads", "limits", "symbols",
             "references")
    about = [p for p in names if p in pages]
    parts.append({"caption": "About this book", "chapters": [{"file": p} for p in about]})
    return {"format": "jb-book", "root": "index", "parts": parts}


def _seconds(meta: Mapping[str, Any]) -> str:
    seconds = float(meta.get("seconds", 0.0))
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _link(entry: ElementEntry, staged: set[str]) -> str:
    if entry.notebook not in staged:
        return entry.title
    return f"[{entry.title}](notebooks/{entry.notebook})"


def _origin(entry: ElementEntry) -> str:
    if entry.paper == "ours":
        return f"ours: {cell(entry.items)}" if entry.items else "ours"
    name = {"central-flows": "central flows", "gfm": "gradient flow matching"}[entry.paper]
    return f"{name}: {cell(entry.items)}" if entry.items else name
