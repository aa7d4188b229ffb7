"""What the book says about itself, generated from the register and the stored verdicts."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from gfm.book.outputs import cell
from gfm.book.register import Claim, ElementEntry, Register
from gfm.book.site.pages import badge
from gfm.book.verdicts import FAILS, HOLDS, NOT_JUDGED, NOT_RUN, SHAPE, Stored, Verdict, best, load_whole

__all__ = ["WRITTEN_NOT", "by_page", "counts", "link", "measured", "numbers", "origin", "run_line", "seconds",
           "state_of"]

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
        stored = best(register, entry, load_whole)
        if entry.notebook is None:
            continue
        if stored is None:
            found[NOT_RUN] += len(entry.claims)
        else:
            found.update(v.verdict for v in stored.verdicts)
    return found


def by_page(register: Register, staged: set[str], verdict: str) -> str:
    """The claims with this verdict, as a Markdown list grouped by page, with their values and bounds."""
    lines = []
    for entry in register:
        stored = best(register, entry, load_whole) if entry.notebook else None
        found = [v for v in stored.verdicts if v.verdict == verdict] if stored else []
        if found:
            lines.append(f"- {link(entry, staged)}")
            lines += [f"  - {v.claim.sentence} [{measured(v)}]{{.provenance}}" for v in found]
    return "\n".join(lines) if lines else "None."


def measured(verdict: Verdict) -> str:
    """What was measured for a claim, its value or why there is none, and its bound, in one line."""
    value = verdict.shown if verdict.value is not None else verdict.why
    return f"{verdict.claim.quantity}{': ' * bool(value)}{value} (bound: {verdict.bound})"


def numbers(register: Register, staged: set[str], picture: str = "") -> dict[str, str]:
    """Texts for the placeholders ``{{ name }}`` of the prose pages (``picture``: the front page's).

    Besides counts: ``value:<element>:<claim>`` is a claim's measured value, ``verdict:<element>:<claim>`` its
    verdict, ``result:<element>:<claim>`` both in one line, ``finding:<element>:<claim>`` that after the claim's
    sentence, ``profile:<element>`` the profile shown, and
    ``link:<element>`` a link to the element's page (its title if there is no page).
    """
    found = counts(register)
    out = {"pages": str(len(register.notebooks())), "pages_failing": str(len(_failing_pages(register))),
           "claims": str(sum(found.values())), "judged": str(found[HOLDS] + found[SHAPE] + found[FAILS]),
           "holds": str(found[HOLDS]), "shape": str(found[SHAPE]), "fails": str(found[FAILS]),
           "open": str(found[NOT_JUDGED] + found[NOT_RUN]),
           "not_reproduced": by_page(register, staged, FAILS), "picture": picture}
    for entry in register:
        stored = best(register, entry, load_whole)
        out[f"link:{entry.id}"] = link(entry, staged)
        out[f"profile:{entry.id}"] = stored.profile if stored else NOT_RUN
        for claim in entry.claims:
            verdict = next((v for v in stored.verdicts if v.claim.id == claim.id), None) if stored else None
            result = _result(entry, claim, verdict, staged)
            out[f"result:{entry.id}:{claim.id}"] = result
            out[f"finding:{entry.id}:{claim.id}"] = f"{claim.sentence} {result}"
            out[f"value:{entry.id}:{claim.id}"] = verdict.shown if verdict else NOT_RUN
            out[f"verdict:{entry.id}:{claim.id}"] = verdict.verdict if verdict else NOT_RUN
    return out


def _failing_pages(register: Register) -> set[str]:
    return {e.notebook for e in register if e.notebook and (stored := best(register, e, load_whole))
            and any(v.verdict == FAILS for v in stored.verdicts)}


def _result(entry: ElementEntry, claim: Claim, verdict: Verdict | None, staged: set[str]) -> str:
    what = measured(verdict) if verdict else claim.quantity
    return (f"{badge(verdict.verdict if verdict else NOT_RUN)} "
            f"[{what} · {link(entry, staged)}]{{.provenance}}")


def run_line(profile: str, meta: Mapping[str, Any]) -> str:
    """Profile, run time, day and commit of a run, for its page."""
    return (f"Profile *{profile}* · {seconds(meta)} · {meta.get('when', '')[:10]} "
            f"· commit {meta.get('commit') or 'unknown'}")


def seconds(meta: Mapping[str, Any]) -> str:
    """How long a run took, for reading."""
    took = float(meta.get("seconds", 0.0))
    return f"{took:.1f} s" if took < 10 else f"{took:.0f} s"


def link(entry: ElementEntry, staged: set[str]) -> str:
    """A link to the element's page; its title if there is no page."""
    if entry.notebook not in staged:
        return entry.title
    return f"[{entry.title}](notebooks/{entry.notebook})"


def origin(entry: ElementEntry) -> str:
    """The paper and its figures that an element reproduces, or what it is of ours."""
    if entry.paper == "ours":
        return f"ours: {cell(entry.items)}" if entry.items else "ours"
    name = {"central-flows": "central flows", "gfm": "gradient flow matching"}[entry.paper]
    return f"{name}: {cell(entry.items)}" if entry.items else name
